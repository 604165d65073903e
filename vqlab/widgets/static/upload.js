// A file to choose; what is too large for the way to the kernel is refused here, where it can still be told.

function render({ model, el, signal }) {
  const label = el.appendChild(document.createElement("label"));
  label.className = "vqlab-file";
  label.append(`${model.get("label")} `);
  const input = label.appendChild(document.createElement("input"));
  input.type = "file";
  input.accept = "image/png,image/jpeg";

  async function chosen() {
    const file = input.files[0];
    if (!file) return;
    const told = { name: file.name, size: file.size };
    try {
      if (file.size > model.get("most")) model.send(told);
      else model.send(told, undefined, [await file.arrayBuffer()]);
    } catch {
      label.title = "the kernel was restarted: run the cell again";
    }
    input.value = "";
  }
  input.addEventListener("change", chosen, { signal });
}

export default { render };
