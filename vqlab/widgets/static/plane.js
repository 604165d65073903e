// A plane whose codes, target and encoder points can be dragged, or moved with the arrow keys once focused.

const SVG = "http://www.w3.org/2000/svg";
const STEP = 0.1;

function make(name, attributes, parent) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return parent.appendChild(node);
}

function axes(svg, half) {
  const marks = [-2, -1, 0, 1, 2].filter((value) => Math.abs(value) <= half);
  for (const value of marks) {
    make("text", { x: value, y: half + 0.22, class: "tick" }, svg).textContent = value;
    make("text", { x: -half - 0.15, y: -value + 0.05, class: "tick" }, svg).textContent = value;
  }
  make("text", { x: 0, y: half + 0.48, class: "tick" }, svg).textContent = "first coordinate";
  const side = { x: 0, y: 0, class: "tick", transform: `translate(${-half - 0.38} 0) rotate(-90)` };
  make("text", side, svg).textContent = "second coordinate";
}

const SHAPES = {
  code: (parent) => make("circle", { r: 0.1 }, parent),
  point: (parent) => make("rect", { x: -0.07, y: -0.07, width: 0.14, height: 0.14 }, parent),
  target: (parent) => make("path", { d: "M0-.17L.05-.05.17-.05.07.03.11.15 0 .08-.11.15-.07.03-.17-.05-.05-.05Z" }, parent),
};

function render({ model, el, signal }) {
  const half = model.get("half");
  const svg = make("svg", { class: "vqlab-plane", role: "group" }, el);
  svg.setAttribute("viewBox", `${-half - 0.55} ${-half - 0.1} ${2 * half + 0.7} ${2 * half + 0.7}`);
  svg.setAttribute("aria-label", "the plane: codes, encoder points and the target; focus one and move it with arrows");
  const ground = make("image", { x: -half, y: -half, width: 2 * half, height: 2 * half }, svg);
  axes(svg, half);
  const field = make("path", { class: "field" }, svg);
  const told = make("path", { class: "told" }, svg);
  const parts = make("g", {}, svg);
  let waiting = false;
  let latest = null;
  let held = null;

  const places = (kind) => (kind === "target" ? [model.get("target")] : model.get(`${kind}s`));
  // One message at a time: the kernel answers each with new arrows, and only the latest place is sent after that.
  function send(message) {
    latest = message;
    if (waiting) return;
    waiting = true;
    try {
      model.send(latest);
    } catch {
      svg.setAttribute("aria-label", "the kernel was restarted: run the cell again");
    }
    latest = null;
  }
  function answered() {
    waiting = false;
    if (latest) send(latest);
  }

  function move(node, x, y) {
    const inside = (value) => Math.round(Math.min(half, Math.max(-half, value)) * 1000) / 1000;
    node.dataset.x = inside(x);
    node.dataset.y = inside(y);
    node.setAttribute("transform", `translate(${node.dataset.x} ${-node.dataset.y})`);
    const name = `${node.dataset.kind} ${Number(node.dataset.index) + 1}`;
    node.setAttribute("aria-label", `${name} at ${node.dataset.x}, ${node.dataset.y}`);
  }
  function report(node) {
    const { kind, index, x, y } = node.dataset;
    send({ kind, index: Number(index), x: Number(x), y: Number(y) });
  }

  function draw() {
    ground.setAttribute("href", model.get("ground"));
    field.setAttribute("d", arrows(model.get("field")));
    told.setAttribute("d", arrows(model.get("arrows")));
    for (const kind of ["code", "point", "target"]) {
      const nodes = [...parts.querySelectorAll(`[data-kind=${kind}]`)];
      places(kind).forEach(([x, y], index) => {
        const node = nodes[index] ?? part(kind, index);
        if (node !== held) move(node, x, y);
      });
      nodes.slice(places(kind).length).forEach((node) => node.remove());
    }
    answered();
  }
  function part(kind, index) {
    const node = make("g", { class: kind, tabindex: 0, role: "img" }, parts);
    node.dataset.kind = kind;
    node.dataset.index = index;
    SHAPES[kind](node);
    return node;
  }

  svg.addEventListener("pointerdown", (event) => {
    held = event.target.closest("[data-kind]");
    if (!held) return;
    held.focus();
    svg.setPointerCapture(event.pointerId);
    event.preventDefault();
  }, { signal });
  svg.addEventListener("pointermove", (event) => {
    if (!held) return;
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    move(held, at.x, -at.y);
    report(held);
  }, { signal });
  svg.addEventListener("pointerup", () => (held = null), { signal });
  svg.addEventListener("keydown", (event) => {
    const turn = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    const node = event.target.closest("[data-kind]");
    if (!turn || !node) return;
    const step = event.shiftKey ? STEP / 5 : STEP;
    move(node, Number(node.dataset.x) + step * turn[0], Number(node.dataset.y) + step * turn[1]);
    report(node);
    event.preventDefault();
    event.stopPropagation();
  }, { signal });
  model.on("change:serial", draw);
  draw();
  return () => model.off("change:serial", draw);
}

function arrows(lines) {
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
