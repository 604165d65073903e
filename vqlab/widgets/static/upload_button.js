// A file input; a file that is too large to be sent is reported to the kernel by its name and size only.

function render({ model, el, signal }) {
  const label = el.appendChild(document.createElement("label"));
  label.className = "vqlab-upload-button";
  label.append(`${model.get("label")} `);
  const input = label.appendChild(document.createElement("input"));
  input.type = "file";
  input.accept = "image/png,image/jpeg";

  async function sendFile() {
    const file = input.files[0];
    if (!file) return;
    const buffers = file.size > model.get("max_bytes") ? undefined : [await file.arrayBuffer()];
    sendToKernel(model, { name: file.name, size: file.size }, (note) => (label.title = note), buffers);
    input.value = "";
  }
  input.addEventListener("change", sendFile, { signal });
}

export default { render };
