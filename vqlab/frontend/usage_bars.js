// Histogram of the usage of codes, most used first: one path for all bars, so that thousands of codes stay quick.
// Arrow keys move from rank to rank, Enter or Space chooses the code.

const MIN_MARK = 5; // smallest width of the mark of a code, pixels

function usageTicks(largest, count = 5) {
  const rough = Math.max(1, largest) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, power * [1, 2, 5, 10].find((factor) => factor * power >= rough));
  return Array.from({ length: Math.floor(largest / step) + 1 }, (_, index) => index * step);
}

function createUsageBars(element, link) {
  const root = element.appendChild(Object.assign(document.createElement("div"), { className: "vqlab-usage-bars" }));
  root.innerHTML = `
    <div class="vqlab-usage-title"></div>
    <div class="vqlab-caption vqlab-usage-code" aria-live="polite"></div>
    <div class="vqlab-axis-y">tokens</div>
    <div class="vqlab-ticks-y"></div>
    <div class="vqlab-usage-plot" role="slider" tabindex="0" aria-label="codes by usage" aria-valuemin="0">
      <svg preserveAspectRatio="none" aria-hidden="true"><path class="lines"></path><path class="bars"></path>
      <rect class="selected"></rect><rect class="lit"></rect></svg><div class="vqlab-pointer"></div></div>
    <div class="vqlab-ticks-x"></div>
    <div class="vqlab-axis-x">rank of the code by usage</div>`;
  const part = (selector) => root.querySelector(selector);
  const [plot, svg] = [part(".vqlab-usage-plot"), part("svg")];
  const closing = new AbortController();
  const { signal } = closing;
  let counts = [];
  let order = [];
  let ranks = new Map();
  let largest = 1;
  let cursor = 0;
  let plotWidth = 600; // kept, since reading it after a change of the page would compute its layout

  function tick(parent, text, style, value) {
    const node = parent.appendChild(Object.assign(document.createElement("span"), { textContent: text }));
    node.style[style] = `${value}%`;
  }

  function drawAxes() {
    for (const selector of [".vqlab-ticks-y", ".vqlab-ticks-x"]) part(selector).replaceChildren();
    const lines = usageTicks(largest).map((value) => `M0 ${largest - value}H${order.length}`);
    part(".lines").setAttribute("d", lines.join(""));
    for (const value of usageTicks(largest)) {
      tick(part(".vqlab-ticks-y"), value.toLocaleString("en"), "bottom", (100 * value) / largest);
    }
    for (const rank of usageTicks(order.length - 1, 8)) {
      tick(part(".vqlab-ticks-x"), rank, "left", (100 * (rank + 0.5)) / order.length);
    }
  }

  // tokens: of each code, by code; title: text.
  function update({ tokens, title }) {
    counts = tokens;
    order = tokens.map((_, code) => code).sort((a, b) => tokens[b] - tokens[a] || a - b);
    ranks = new Map(order.map((code, rank) => [code, rank]));
    largest = Math.max(1, tokens[order[0]] ?? 0);
    part(".vqlab-usage-title").textContent = title;
    plot.setAttribute("aria-valuemax", order.length - 1);
    svg.setAttribute("viewBox", `0 0 ${Math.max(1, order.length)} ${largest}`);
    const bars = order.filter((code) => counts[code] > 0).map((code, rank) => `M${rank} ${largest}v${-counts[code]}h1V${largest}z`);
    part(".bars").setAttribute("d", bars.join(""));
    drawAxes();
    mark();
  }

  function place(rect, code, height) {
    const rank = ranks.get(code);
    rect.style.display = rank === undefined ? "none" : "";
    if (rank === undefined) return;
    const width = Math.max(1, (MIN_MARK * order.length) / plotWidth);
    const values = { x: rank + 0.5 - width / 2, y: largest - height, width, height };
    for (const [name, value] of Object.entries(values)) rect.setAttribute(name, value);
    rect.dataset.code = code;
  }

  function mark() {
    if (!order.length) return;
    place(part("rect.selected"), link.selected, counts[link.selected] ?? 0);
    place(part("rect.lit"), link.lit, largest);
    const pointer = part(".vqlab-pointer");
    const selected = ranks.get(link.selected);
    pointer.hidden = selected === undefined;
    pointer.style.left = `${(100 * ((selected ?? 0) + 0.5)) / order.length}%`;
    describe(link.lit ?? link.selected);
  }

  function describe(code) {
    const rank = ranks.get(code);
    const total = Math.max(1, counts.reduce((sum, count) => sum + count, 0));
    const share = ((100 * counts[code]) / total).toFixed(2);
    const text = rank === undefined ? "" : `code ${code}, rank ${rank}: ${counts[code].toLocaleString("en")} tokens (${share} %)`;
    part(".vqlab-usage-code").textContent = link.closed ?? text;
    plot.setAttribute("aria-valuetext", text);
    plot.setAttribute("aria-valuenow", rank ?? 0);
  }

  function codeAt(event) {
    const box = svg.getBoundingClientRect();
    return order[Math.min(order.length - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * order.length)))];
  }

  function onKey(event) {
    const last = order.length - 1;
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -last, End: last };
    if (event.key === "Enter" || event.key === " ") link.select(order[cursor]);
    else if (event.key in steps) {
      cursor = Math.min(last, Math.max(0, cursor + steps[event.key]));
      link.light(order[cursor]);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function onFocus() {
    cursor = ranks.get(link.selected) ?? 0;
    if (plot.matches(":focus-visible")) link.light(order[cursor]);
  }

  plot.addEventListener("pointermove", (event) => link.light(codeAt(event)), { signal });
  plot.addEventListener("pointerleave", () => link.light(null), { signal });
  plot.addEventListener("click", (event) => link.select(codeAt(event)), { signal });
  plot.addEventListener("keydown", onKey, { signal });
  plot.addEventListener("focus", onFocus, { signal });
  plot.addEventListener("blur", () => link.light(null), { signal });
  const unsubscribe = link.subscribe(mark);
  const onResize = new ResizeObserver(() => {
    plotWidth = plot.clientWidth || plotWidth;
    mark();
  });
  onResize.observe(plot);
  return {
    update,
    close() {
      closing.abort();
      unsubscribe();
      onResize.disconnect();
    },
  };
}
