// The link between the codes of one explorer and the kernel; it shows nothing itself.

function initialize({ model }) {
  const link = codeLink(model.get("name"));
  const own = {}; // marks selections that come from this model's kernel
  let number = model.get("answered"); // of the last choice that was sent

  const code = () => (model.get("code") < 0 ? null : model.get("code"));
  const isAnswered = () => model.get("answered") >= number;

  function onLink(name, source) {
    if (name !== "selected" || source === own || link.selected === null || model.get("code") < 0) return;
    number += 1;
    sendToKernel(model, { code: link.selected, number }, (note) => {
      number -= 1;
      link.set("closed", note);
    });
  }
  // An answer to an older choice than the last one says nothing about the present one.
  function onKernel() {
    if (isAnswered()) link.select(code(), own);
  }
  function onCodebook() {
    link.codebook = model.get("codebook");
  }

  onCodebook();
  link.set("selected", code(), own);
  const unsubscribe = link.subscribe(onLink);
  const stops = [onChanges(model, ["codebook"], onCodebook), onChanges(model, ["code", "answered"], onKernel)];
  return () => {
    unsubscribe();
    removeCodeLink(model.get("name"));
    for (const stop of stops) stop();
  };
}

export default { initialize, render() {} };
