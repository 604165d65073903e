// A grid of codes: each cell shows its code's patch from a sprite; arrows move, Enter, Space or a click choose.

function place(cell, code, columns, size) {
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
  const choose = (index) => {
    const width = columns();
    try {
      model.send({ row: Math.floor(index / width), column: index % width });
    } catch {
      table.setAttribute("data-lost", "the kernel was restarted: run the cell again");
    }
  };

  function label(cell, index, code) {
    const width = columns();
    const where = `row ${Math.floor(index / width) + 1}, column ${(index % width) + 1}`;
    cell.dataset.code = code;
    const name = code < 0 ? "no code given" : `code ${code}`;
    cell.title = name;
    cell.setAttribute("aria-label", `${where}: ${name}`);
    if (model.get("numbers")) cell.firstChild.textContent = code < 0 ? "" : code;
  }

  function draw(cell, index, code) {
    cell.classList.toggle("vqlab-blank", code < 0);
    place(cell, code, model.get("sprite_columns"), model.get("size"));
    label(cell, index, code);
    const marked = model.get("marked").includes(code);
    cell.setAttribute("aria-selected", marked);
  }

  function build() {
    const size = model.get("size");
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
    paintSprite();
    focused = Math.min(focused, Math.max(0, cells.length - 1));
    if (cells.length) cells[focused].tabIndex = 0;
  }

  function paintSprite() {
    const width = model.get("sprite_columns") * model.get("size");
    table.style.setProperty("--sprite", `url(${model.get("sprite")})`);
    table.style.setProperty("--width", `${width}px`);
  }

  function refresh() {
    const codes = model.get("cells").flat();
    const rows = table.children.length;
    const same = codes.length === cells.length && rows === model.get("cells").length;
    if (!same) return build();
    codes.forEach((code, index) => {
      if (cells[index].dataset.code !== String(code)) draw(cells[index], index, code);
    });
  }

  function mark() {
    const marked = new Set(model.get("marked").map(String));
    for (const cell of cells) cell.setAttribute("aria-selected", marked.has(cell.dataset.code));
  }

  function focus(index) {
    cells[focused].tabIndex = -1;
    focused = index;
    cells[focused].tabIndex = 0;
    cells[focused].focus();
  }

  function moved(key) {
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
      if (event.key === "Enter" || event.key === " ") choose(focused);
      else if (event.key.startsWith("Arrow") || event.key === "Home" || event.key === "End") focus(moved(event.key));
      else return;
      event.preventDefault();
      event.stopPropagation();
    },
    { signal },
  );
  const chosen = (event) => {
    const index = cells.indexOf(event.target.closest("[role=gridcell]"));
    if (index < 0) return;
    focus(index);
    choose(index);
  };
  table.addEventListener("pointerdown", chosen, { signal });
  table.addEventListener("pointerover", (event) => event.buttons === 1 && model.get("drag") && chosen(event), {
    signal,
  });
  model.on("change:cells", refresh);
  model.on("change:marked", mark);
  model.on("change:sprite", () => {
    paintSprite();
    build();
  });
  build();
  return () => {
    model.off("change:cells", refresh);
    model.off("change:marked", mark);
  };
}

export default { render };
