// A file input; a file that is too large to be sent is reported to the kernel by its name and size only.

function render({ model, el, signal }) {
  const label = el.appendChild(document.createElement("label"));
  label.append(`${model.get("label")} `);
  const input = label.appendChild(document.createElement("input"));
  input.type = "file";
  input.accept = "image/png,image/jpeg";

  async function sendFile() {
    const file = input.files[0];
    if (!file) return;
    const description = { name: file.name, size: file.size };
    try {
      if (file.size > model.get("max_bytes")) model.send(description);
      else model.send(description, undefined, [await file.arrayBuffer()]);
    } catch {
      label.title = "the kernel was restarted: run the cell again";
    }
    input.value = "";
  }
  input.addEventListener("change", sendFile, { signal });
}

export default { render };
