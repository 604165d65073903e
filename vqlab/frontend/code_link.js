// Which code is lit (under the pointer or focused) and which is selected. Views of one codebook share both.

const CODE_LINKS = Symbol.for("vqlab.codeLinks");

class CodeLink {
  constructor(links) {
    this.links = links;
    this.codebook = null;
    this.lit = null;
    this.selected = null;
    this.closed = null; // a note if the kernel of the explorer is gone
    this.listeners = new Set();
  }

  // This link and those of other explorers of the same codebook in the page.
  peers() {
    const sameCodebook = (other) => this.codebook !== null && other.codebook === this.codebook;
    return [...this.links.values()].filter((other) => other === this || sameCodebook(other));
  }

  light(code) {
    for (const peer of this.peers()) peer.set("lit", code);
  }

  // source is passed to the listeners: the one that reports a selection need not be told of it.
  select(code, source) {
    for (const peer of this.peers()) peer.set("selected", code, source);
  }

  set(name, value, source) {
    if (this[name] === value) return;
    this[name] = value;
    for (const listener of this.listeners) listener(name, source);
  }

  subscribe(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}

// The link of a name; each module of a page has its own copy of this file, and all share the links.
function codeLink(name) {
  const links = (globalThis[CODE_LINKS] ??= new Map());
  if (!links.has(name)) links.set(name, new CodeLink(links));
  return links.get(name);
}

function removeCodeLink(name) {
  globalThis[CODE_LINKS]?.delete(name);
}

// Code of an element with data-code; null where there is none.
function codeOf(node) {
  const code = Number(node?.dataset.code ?? -1);
  return code < 0 ? null : code;
}

// Light the code of the element inside root under the pointer, or of the element that the keyboard has focused.
function emitLitCodes(root, link, signal) {
  const focused = () => codeOf(root.querySelector("[data-code]:focus-visible"));
  root.addEventListener("pointerover", (event) => link.light(codeOf(event.target.closest("[data-code]"))), { signal });
  root.addEventListener("pointerleave", () => link.light(focused()), { signal });
  root.addEventListener("focusin", () => focused() !== null && link.light(focused()), { signal });
  root.addEventListener("focusout", () => link.light(codeOf(root.querySelector("[data-code]:hover"))), { signal });
}

// Select the code of the element inside root that is clicked, or chosen with Enter or Space.
function emitSelectedCodes(root, link, signal) {
  const choose = (event) => {
    const code = codeOf(event.target.closest("[data-code]"));
    if (code === null) return;
    event.preventDefault();
    event.stopPropagation();
    link.select(code);
  };
  root.addEventListener("click", choose, { signal });
  root.addEventListener("keydown", (event) => [" ", "Enter"].includes(event.key) && choose(event), { signal });
}

const CODE_CLASSES = { lit: "vqlab-lit", selected: "vqlab-selected" };

// Give the elements inside root the classes of the lit and of the selected code.
function markCodes(root, link, names = ["lit", "selected"]) {
  for (const name of names.filter((changed) => changed in CODE_CLASSES)) {
    const [className, code] = [CODE_CLASSES[name], link[name]];
    const marked = code === null ? [] : root.querySelectorAll(`[data-code="${code}"]`);
    for (const node of root.querySelectorAll(`.${className}`)) {
      if (codeOf(node) !== code) setMark(node, name, false);
    }
    for (const node of marked) setMark(node, name, true);
  }
}

function setMark(node, name, on) {
  node.classList.toggle(CODE_CLASSES[name], on);
  if (name === "selected" && node.hasAttribute("aria-selected")) node.setAttribute("aria-selected", on);
}
