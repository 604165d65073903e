// A grid of codes, each drawn as its patch. A click, Enter or Space chooses a cell, arrow keys move the focus.

const FLOW_CELLS = [16, 28]; // smallest and largest side of a cell of a grid that fills its lines, pixels
const MAX_NUMBERED = 16; // columns up to which a cell has room for its code as a number

// Number of columns for which the last line of count cells is as full as possible.
function fullLines(count, width) {
  const [most, least] = FLOW_CELLS.map((side) => Math.max(1, Math.min(count, Math.floor(width / side))));
  let best = most;
  for (let columns = most; columns >= least; columns -= 1) {
    const empty = (number) => Math.ceil(count / number) * number - count;
    if (empty(columns) < empty(best)) best = columns;
  }
  return best;
}

// options: cells (rows of codes), sprite (URL), numCodes, label, showCodes, drag, flow (fill lines of the given width).
// onChoose(row, column, code) is called for each chosen cell.
function createCodeGrid(element, link, onChoose) {
  const table = document.createElement("div");
  table.className = "vqlab-codes";
  table.setAttribute("role", "grid");
  element.append(table);
  const closing = new AbortController();
  const { signal } = closing;
  let options = { cells: [] };
  let cells = [];
  let columns = 1;
  let focused = 0;

  function lineLength() {
    if (!options.flow) return options.cells[0]?.length ?? 1;
    return fullLines(options.cells.flat().length, element.clientWidth || 640);
  }

  function draw(cell, index, code) {
    const side = Math.ceil(Math.sqrt(options.numCodes));
    const rows = Math.ceil(options.numCodes / side);
    const percent = (position, count) => (count > 1 ? (100 * position) / (count - 1) : 0);
    cell.style.backgroundPosition = `${percent(code % side, side)}% ${percent(Math.floor(code / side), rows)}%`;
    cell.classList.toggle("vqlab-no-code", code < 0);
    cell.dataset.code = code;
    const name = code < 0 ? "no code" : `code ${code}`;
    const position = `row ${Math.floor(index / columns) + 1}, column ${(index % columns) + 1}`;
    cell.title = name;
    cell.setAttribute("aria-label", `${position}: ${name}`);
    cell.textContent = options.showCodes && code >= 0 && columns <= MAX_NUMBERED ? code : "";
  }

  function build(codes) {
    columns = lineLength();
    table.replaceChildren();
    cells = codes.map((code, index) => {
      if (index % columns === 0) table.append(Object.assign(document.createElement("div"), { role: "row" }));
      const cell = Object.assign(document.createElement("div"), { role: "gridcell", tabIndex: -1 });
      cell.setAttribute("aria-selected", "false");
      table.lastChild.append(cell);
      draw(cell, index, code);
      return cell;
    });
    focused = Math.min(focused, Math.max(0, cells.length - 1));
    if (cells.length) cells[focused].tabIndex = 0;
    markCodes(table, link);
  }

  function setStyle() {
    const side = Math.ceil(Math.sqrt(options.numCodes));
    table.classList.toggle("vqlab-flow", Boolean(options.flow));
    table.classList.toggle("vqlab-dense", columns > 2 * MAX_NUMBERED && !options.flow);
    table.style.setProperty("--columns", columns);
    table.style.setProperty("--sprite", `url(${options.sprite})`);
    table.style.setProperty("--patches", `${100 * side}% ${100 * Math.ceil(options.numCodes / side)}%`);
    table.setAttribute("aria-label", options.label);
  }

  function update(changes) {
    const differs = (name) => name in changes && changes[name] !== options[name];
    const [resized, restyled] = [differs("numCodes"), differs("sprite") || differs("label")];
    options = { ...options, ...changes };
    const codes = options.cells.flat();
    if (resized || codes.length !== cells.length || lineLength() !== columns) {
      build(codes);
      setStyle();
    } else {
      codes.forEach((code, index) => cells[index].dataset.code !== String(code) && draw(cells[index], index, code));
      markCodes(table, link);
      if (restyled) setStyle();
    }
  }

  function choose(index) {
    const width = options.cells[0].length;
    onChoose(Math.floor(index / width), index % width, codeOf(cells[index]));
  }

  function focus(index) {
    cells[focused].tabIndex = -1;
    focused = index;
    cells[focused].tabIndex = 0;
    cells[focused].focus();
  }

  function nextIndex(key) {
    const row = focused - (focused % columns);
    const last = cells.length - 1;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    if (key === "Home") return row;
    if (key === "End") return Math.min(row + columns - 1, last);
    const next = focused + (steps[key] ?? 0);
    return next < 0 || next > last ? focused : next;
  }

  function onKey(event) {
    if (event.key === "Enter" || event.key === " ") choose(focused);
    else if (event.key.startsWith("Arrow") || event.key === "Home" || event.key === "End") focus(nextIndex(event.key));
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function onPointer(event) {
    const index = cells.indexOf(event.target.closest("[role=gridcell]"));
    if (index < 0) return;
    // What the page does when the focus moves may take some frames: the code is marked before.
    choose(index);
    focus(index);
  }

  emitLitCodes(table, link, signal);
  table.addEventListener("keydown", onKey, { signal });
  table.addEventListener("pointerdown", onPointer, { signal });
  table.addEventListener("pointerover", (event) => event.buttons === 1 && options.drag && onPointer(event), { signal });
  const unsubscribe = link.subscribe((name) => markCodes(table, link, [name]));
  const onResize = new ResizeObserver(() => options.flow && element.clientWidth > 0 && update({}));
  onResize.observe(element);
  return {
    update,
    showError: (text) => table.setAttribute("data-error", text),
    close() {
      closing.abort();
      unsubscribe();
      onResize.disconnect();
    },
  };
}
