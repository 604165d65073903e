// The decoded patch of a code and the image patches nearest to it, each with a caption that names the code.

const MOST_COLUMNS = 8;
const FEWEST_COLUMNS = 5;

// Columns for so many patches that the last row is as full as the others.
function patchColumns(count) {
  const rows = Math.max(1, Math.ceil(count / MOST_COLUMNS));
  return Math.max(FEWEST_COLUMNS, Math.ceil(count / rows));
}

function createCodePatches(element, link) {
  const box = element.appendChild(Object.assign(document.createElement("div"), { className: "vqlab-code-patches" }));
  const closing = new AbortController();
  const [decoded, nearest] = ["vqlab-decoded", "vqlab-patch-row"].map((className) => {
    const figure = box.appendChild(document.createElement("figure"));
    const pictures = figure.appendChild(Object.assign(document.createElement("div"), { className }));
    const caption = figure.appendChild(Object.assign(document.createElement("figcaption"), { className: "vqlab-caption" }));
    return { pictures, caption };
  });

  function picture(name, src, alt, code) {
    const image = Object.assign(new Image(), { className: `vqlab-picture vqlab-${name}`, src, alt });
    image.dataset.code = code;
    return image;
  }

  // patch: URL; patches: URL of count patches beside each other; parts of the captions as showCaption takes them.
  function update({ code, patch, patches, count, caption, patchesCaption }) {
    decoded.pictures.replaceChildren(picture("code-picture", patch, `decoded patch of code ${code}`, code));
    nearest.pictures.style.setProperty("--columns", patchColumns(count));
    nearest.pictures.replaceChildren(...Array.from({ length: count }, (_, index) => {
      const image = picture("patches", patches, `image patch ${index + 1} nearest to code ${code}`, code);
      image.style.objectPosition = `${count > 1 ? (100 * index) / (count - 1) : 0}% 0`;
      return image;
    }));
    showCaption(decoded.caption, caption);
    showCaption(nearest.caption, patchesCaption);
    markCodes(box, link);
  }

  emitLitCodes(box, link, closing.signal);
  emitSelectedCodes(box, link, closing.signal);
  const unsubscribe = link.subscribe((name) => markCodes(box, link, [name]));
  return {
    update,
    close() {
      closing.abort();
      unsubscribe();
    },
  };
}
