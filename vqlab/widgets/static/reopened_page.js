// Shows widgets of a notebook that was opened again while the page was busy.
//
// An output looks for the model of its widget for two seconds. A page that is busy for that time restores the models
// from the kernel and has them all, but the output was told that there is none, says "model not found" and never looks
// again (ipywidgets, issue 4026).

// Longer than the 0.1 s in which an output that still looks for its model finds it once it is there.
const STILL_LOOKING = 1000;
const VIEW = "application/vnd.jupyter.widget-view+json";

async function hasNoView(manager, id) {
  return id && manager.has_model(id) && Object.keys((await manager.get_model(id)).views ?? {}).length === 0;
}

async function renderAgain(manager) {
  for (const { outputs } of manager.context.model.cells) {
    for (let index = 0; index < (outputs?.length ?? 0); index++) {
      if (await hasNoView(manager, outputs.get(index).data[VIEW]?.model_id)) {
        // As text, since JupyterLab takes the number 0 for all outputs of the cell.
        outputs.stateChanged.emit(String(index));
      }
    }
  }
}

// Other front ends than JupyterLab have no such context; theirs is left alone.
function initialize({ model }) {
  const manager = model.widget_manager;
  if (!manager.context?.model?.cells || !manager.restored) return;
  const check = () => setTimeout(() => renderAgain(manager), STILL_LOOKING);
  if (manager.restoredStatus) check();
  manager.restored.connect(check);
  return () => manager.restored.disconnect(check);
}

export default { initialize };
