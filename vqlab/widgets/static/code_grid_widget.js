const GRID_OPTIONS = { cells: "cells", sprite: "sprite", num_codes: "numCodes", label: "label", show_codes: "showCodes", drag: "drag", flow: "flow" };

function render({ model, el }) {
  const link = codeLink(model.get("link"));
  const grid = createCodeGrid(el, link, (row, column, code) => {
    if (model.get("selects") && code !== null) link.select(code);
    sendToKernel(model, { row, column }, grid.showError);
  });
  const update = () => grid.update(
    Object.fromEntries(Object.entries(GRID_OPTIONS).map(([name, option]) => [option, model.get(name)])),
  );
  update();
  const stop = onChanges(model, Object.keys(GRID_OPTIONS), update);
  return () => {
    stop();
    grid.close();
  };
}

export default { render };
