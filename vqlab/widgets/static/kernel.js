// Send a message to the kernel; onClosed is called with a note if the kernel that made the widget is gone.
function sendToKernel(model, content, onClosed, buffers) {
  try {
    model.send(content, undefined, buffers);
  } catch {
    onClosed("the kernel was restarted: run the cell again");
  }
}

// Call a function for changes of any of the names; returns a function that stops it.
function onChanges(model, names, callback) {
  const events = names.map((name) => `change:${name}`);
  for (const event of events) model.on(event, callback);
  return () => events.forEach((event) => model.off(event, callback));
}
