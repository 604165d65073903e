// A plane with codes, encoder vectors and a target: drag them, or focus one and move it with the arrow keys.

const SVG = "http://www.w3.org/2000/svg";
const STEP = 0.1;

function addElement(name, attributes, parent) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return parent.appendChild(node);
}

function drawAxes(svg, half) {
  const ticks = [-2, -1, 0, 1, 2].filter((value) => Math.abs(value) <= half);
  for (const value of ticks) {
    addElement("text", { x: value, y: half + 0.22, class: "tick" }, svg).textContent = value;
    addElement("text", { x: -half - 0.15, y: -value + 0.05, class: "tick" }, svg).textContent = value;
  }
  addElement("text", { x: 0, y: half + 0.48, class: "tick" }, svg).textContent = "first coordinate";
  const vertical = { x: 0, y: 0, class: "tick", transform: `translate(${-half - 0.38} 0) rotate(-90)` };
  addElement("text", vertical, svg).textContent = "second coordinate";
}

const SHAPES = {
  code: (parent) => addElement("circle", { r: 0.1 }, parent),
  point: (parent) => addElement("rect", { x: -0.07, y: -0.07, width: 0.14, height: 0.14 }, parent),
  target: (parent) => addElement("path", { d: "M0-.17L.05-.05.17-.05.07.03.11.15 0 .08-.11.15-.07.03-.17-.05-.05-.05Z" }, parent),
};

function render({ model, el, signal }) {
  const half = model.get("half_width");
  const svg = addElement("svg", { class: "vqlab-plane", role: "group" }, el);
  svg.setAttribute("viewBox", `${-half - 0.55} ${-half - 0.1} ${2 * half + 0.7} ${2 * half + 0.7}`);
  svg.setAttribute("aria-label", "plane with codes, encoder vectors and the target; focus one and move it with the arrow keys");
  const background = addElement("image", { x: -half, y: -half, width: 2 * half, height: 2 * half }, svg);
  drawAxes(svg, half);
  const field = addElement("path", { class: "field" }, svg);
  const pointArrows = addElement("path", { class: "point-arrows" }, svg);
  const items = addElement("g", {}, svg);
  let waiting = false;
  let pending = null;
  let dragged = null;

  const positions = (kind) => (kind === "target" ? [model.get("target")] : model.get(`${kind}s`));
  // One message at a time: the kernel answers each with new arrows; after that only the latest position is sent.
  function send(message) {
    pending = message;
    if (waiting) return;
    waiting = true;
    sendToKernel(model, pending, (note) => svg.setAttribute("aria-label", note));
    pending = null;
  }
  // The answer to an earlier position must not undo the moves after it.
  const isAhead = (kind, index) => pending?.kind === kind && pending?.index === index;
  function onAnswer() {
    waiting = false;
    if (pending) send(pending);
  }

  function move(node, x, y) {
    const clamp = (value) => Math.round(Math.min(half, Math.max(-half, value)) * 1000) / 1000;
    node.dataset.x = clamp(x);
    node.dataset.y = clamp(y);
    node.setAttribute("transform", `translate(${node.dataset.x} ${-node.dataset.y})`);
    const name = `${node.dataset.kind} ${Number(node.dataset.index) + 1}`;
    node.setAttribute("aria-label", `${name} at ${node.dataset.x}, ${node.dataset.y}`);
  }
  function sendPosition(node) {
    const { kind, index, x, y } = node.dataset;
    send({ kind, index: Number(index), x: Number(x), y: Number(y) });
  }

  function draw() {
    background.setAttribute("href", model.get("background"));
    field.setAttribute("d", arrowPaths(model.get("field_arrows")));
    pointArrows.setAttribute("d", arrowPaths(model.get("point_arrows")));
    for (const kind of ["code", "point", "target"]) {
      const nodes = [...items.querySelectorAll(`[data-kind=${kind}]`)];
      positions(kind).forEach(([x, y], index) => {
        const node = nodes[index] ?? addItem(kind, index);
        if (node !== dragged && !isAhead(kind, index)) move(node, x, y);
      });
      nodes.slice(positions(kind).length).forEach((node) => node.remove());
    }
    onAnswer();
  }
  function addItem(kind, index) {
    const node = addElement("g", { class: kind, tabindex: 0, role: "img" }, items);
    node.dataset.kind = kind;
    node.dataset.index = index;
    SHAPES[kind](node);
    return node;
  }

  svg.addEventListener("pointerdown", (event) => {
    dragged = event.target.closest("[data-kind]");
    if (!dragged) return;
    dragged.focus();
    svg.setPointerCapture(event.pointerId);
    event.preventDefault();
  }, { signal });
  svg.addEventListener("pointermove", (event) => {
    if (!dragged) return;
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    move(dragged, point.x, -point.y);
    sendPosition(dragged);
  }, { signal });
  svg.addEventListener("pointerup", () => (dragged = null), { signal });
  svg.addEventListener("keydown", (event) => {
    const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    const node = event.target.closest("[data-kind]");
    if (!direction || !node) return;
    const step = event.shiftKey ? STEP / 5 : STEP;
    move(node, Number(node.dataset.x) + step * direction[0], Number(node.dataset.y) + step * direction[1]);
    sendPosition(node);
    event.preventDefault();
    event.stopPropagation();
  }, { signal });
  model.on("change:revision", draw);
  draw();
  return () => model.off("change:revision", draw);
}

function arrowPaths(lines) {
  return lines.map(([x, y, toX, toY]) => {
    const [dx, dy] = [toX - x, toY - y];
    const length = Math.hypot(dx, dy) || 1;
    const head = Math.min(0.08, length * 0.6);
    const [ux, uy] = [(dx / length) * head, (dy / length) * head];
    const left = `${toX - ux - uy * 0.5} ${-(toY - uy + ux * 0.5)}`;
    const right = `${toX - ux + uy * 0.5} ${-(toY - uy - ux * 0.5)}`;
    return `M${x} ${-y}L${toX} ${-toY}M${left}L${toX} ${-toY}L${right}`;
  }).join("");
}

export default { render };
