// A grid of codes: each cell shows the patch of its code from the sprite. A click, Enter or Space selects a cell.

function setPatch(cell, code, columns, size) {
  const x = -(code % columns) * size;
  const y = -Math.floor(code / columns) * size;
  cell.style.backgroundPosition = `${x}px ${y}px`;
}

function render({ model, el, signal }) {
  const table = document.createElement("div");
  table.className = "vqlab-codes";
  table.setAttribute("role", "grid");
  el.append(table);
  let cells = [];
  let focused = 0;

  const columns = () => model.get("cells")[0]?.length ?? 0;
  const select = (index) => {
    const width = columns();
    try {
      model.send({ row: Math.floor(index / width), column: index % width });
    } catch {
      table.setAttribute("data-error", "the kernel was restarted: run the cell again");
    }
  };

  function label(cell, index, code) {
    const width = columns();
    const position = `row ${Math.floor(index / width) + 1}, column ${(index % width) + 1}`;
    cell.dataset.code = code;
    const name = code < 0 ? "no code" : `code ${code}`;
    cell.title = name;
    cell.setAttribute("aria-label", `${position}: ${name}`);
    if (model.get("show_codes")) cell.firstChild.textContent = code < 0 ? "" : code;
  }

  function draw(cell, index, code) {
    cell.classList.toggle("vqlab-no-code", code < 0);
    setPatch(cell, code, model.get("sprite_columns"), model.get("cell_size"));
    label(cell, index, code);
    cell.setAttribute("aria-selected", model.get("selected").includes(code));
  }

  function build() {
    const size = model.get("cell_size");
    table.replaceChildren();
    table.setAttribute("aria-label", model.get("label"));
    table.style.setProperty("--size", `${size}px`);
    cells = [];
    for (const codes of model.get("cells")) {
      const row = table.appendChild(document.createElement("div"));
      row.setAttribute("role", "row");
      for (const code of codes) {
        const cell = row.appendChild(document.createElement("div"));
        cell.setAttribute("role", "gridcell");
        cell.appendChild(document.createElement("span"));
        cell.tabIndex = -1;
        const index = cells.push(cell) - 1;
        draw(cell, index, code);
      }
    }
    setSprite();
    focused = Math.min(focused, Math.max(0, cells.length - 1));
    if (cells.length) cells[focused].tabIndex = 0;
  }

  function setSprite() {
    const width = model.get("sprite_columns") * model.get("cell_size");
    table.style.setProperty("--sprite", `url(${model.get("sprite")})`);
    table.style.setProperty("--width", `${width}px`);
  }

  function refresh() {
    const codes = model.get("cells").flat();
    const rows = table.children.length;
    const sameShape = codes.length === cells.length && rows === model.get("cells").length;
    if (!sameShape) return build();
    codes.forEach((code, index) => {
      if (cells[index].dataset.code !== String(code)) draw(cells[index], index, code);
    });
  }

  function showSelected() {
    const selected = new Set(model.get("selected").map(String));
    for (const cell of cells) cell.setAttribute("aria-selected", selected.has(cell.dataset.code));
  }

  function focus(index) {
    cells[focused].tabIndex = -1;
    focused = index;
    cells[focused].tabIndex = 0;
    cells[focused].focus();
  }

  function nextIndex(key) {
    const width = columns();
    const last = cells.length - 1;
    const row = focused - (focused % width);
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -width, ArrowDown: width };
    if (key === "Home") return row;
    if (key === "End") return row + width - 1;
    const next = focused + (steps[key] ?? 0);
    return next < 0 || next > last ? focused : next;
  }

  table.addEventListener(
    "keydown",
    (event) => {
      if (event.key === "Enter" || event.key === " ") select(focused);
      else if (event.key.startsWith("Arrow") || event.key === "Home" || event.key === "End") focus(nextIndex(event.key));
      else return;
      event.preventDefault();
      event.stopPropagation();
    },
    { signal },
  );
  const onPointer = (event) => {
    const index = cells.indexOf(event.target.closest("[role=gridcell]"));
    if (index < 0) return;
    focus(index);
    select(index);
  };
  table.addEventListener("pointerdown", onPointer, { signal });
  table.addEventListener("pointerover", (event) => event.buttons === 1 && model.get("drag") && onPointer(event), {
    signal,
  });
  model.on("change:cells", refresh);
  model.on("change:selected", showSelected);
  model.on("change:sprite", () => {
    setSprite();
    build();
  });
  build();
  return () => {
    model.off("change:cells", refresh);
    model.off("change:selected", showSelected);
  };
}

export default { render };
