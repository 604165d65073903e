// A caption that names codes: text and, in between, codes that light up and can be chosen.

// parts: texts, and a number for each code.
function showCaption(element, parts) {
  element.replaceChildren(...parts.map((part) => (typeof part === "number" ? codeName(part) : part)));
}

function codeName(code) {
  const name = Object.assign(document.createElement("span"), { className: "vqlab-code-name", role: "button", tabIndex: 0 });
  name.dataset.code = code;
  name.textContent = `code ${code}`;
  return name;
}

function createCodeCaption(element, link) {
  const caption = element.appendChild(Object.assign(document.createElement("div"), { className: "vqlab-caption" }));
  const closing = new AbortController();
  emitLitCodes(caption, link, closing.signal);
  emitSelectedCodes(caption, link, closing.signal);
  const unsubscribe = link.subscribe((name) => markCodes(caption, link, [name]));
  return {
    update({ parts }) {
      showCaption(caption, parts);
      markCodes(caption, link);
    },
    close() {
      closing.abort();
      unsubscribe();
    },
  };
}
