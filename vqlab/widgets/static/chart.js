// A plotly chart whose whole figure is one synchronised value, so that no message can leave it without its data.

const LIBRARY = Symbol.for("vqlab.plotly");
const CONFIG = { displaylogo: false, responsive: false, displayModeBar: false };

// The page runs plotly.js once. It waits for the script of each kernel on its own: one that never answers, since it
// computes or was restarted, must not hold up the charts of another.
async function loadPlotly(model) {
  if (!globalThis[LIBRARY]) {
    const source = await readSource(model);
    globalThis[LIBRARY] ??= run(source);
  }
  return globalThis[LIBRARY];
}

// plotly.js is one model for the whole kernel; a page that was opened after the kernel had sent it asks for it once.
async function readSource(model) {
  const script = await model.widget_manager.get_model(model.get("script").replace("IPY_MODEL_", ""));
  if (!script.get("source")) await (script[LIBRARY] ??= requestSource(script));
  return script.get("source");
}

function requestSource(script) {
  return new Promise((resolve) => {
    script.once("change:source", resolve);
    script.send({ request: "source" });
  });
}

// With its own module object, so that plotly.js neither reads nor replaces names of the page.
function run(source) {
  const module = { exports: {} };
  new Function("module", "exports", source)(module, module.exports);
  return module.exports;
}

function themeColours(element) {
  const style = getComputedStyle(element);
  const colour = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
  return { font: colour("--jp-ui-font-color1", "#222"), grid: colour("--jp-border-color2", "#ddd") };
}

function themed(layout, element) {
  const { font, grid } = themeColours(element);
  const result = { ...layout, font: { ...layout.font, color: font } };
  for (const key of Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name))) {
    result[key] = { gridcolor: grid, zerolinecolor: grid, ...layout[key] };
  }
  return result;
}

// The style sheet gives the chart its size, and plotly.js draws at a size in pixels.
function sizeOf(chart) {
  return { width: Math.max(240, chart.clientWidth), height: Math.max(240, chart.clientHeight) };
}

function render({ model, el }) {
  const chart = document.createElement("div");
  chart.className = "vqlab-chart";
  el.append(chart);
  let requested = 0; // number of drawings asked for
  let drawn = -1; // the last of them that is on the page
  let busy = false;
  let closed = false;
  let size = null; // of the last drawing

  // JupyterLab takes outputs that are scrolled away out of the page, and text cannot be measured there.
  const visible = () => chart.isConnected && chart.getClientRects().length > 0;

  async function draw() {
    if (busy) return;
    busy = true;
    try {
      const plotly = await loadPlotly(model);
      while (!closed && drawn !== requested && visible()) {
        const target = requested;
        const revision = model.get("revision");
        const { data, layout } = structuredClone(model.get("figure"));
        size = sizeOf(chart);
        await plotly.react(chart, data, { ...themed(layout, chart), ...size }, CONFIG);
        drawn = target;
        chart.dataset.revision = revision;
      }
    } catch (error) {
      chart.textContent = `chart not drawn: ${error.message}`;
    } finally {
      busy = false;
    }
  }

  function request() {
    requested += 1;
    draw();
  }

  function onResize() {
    const { width, height } = sizeOf(chart);
    if (visible() && size && (width !== size.width || height !== size.height)) request();
  }

  const onVisibility = new IntersectionObserver(draw);
  onVisibility.observe(chart);
  const onSize = new ResizeObserver(onResize);
  onSize.observe(chart);
  const onTheme = new MutationObserver(request);
  onTheme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-name", "data-jp-theme-light"] });
  model.on("change:figure", request);
  request();
  return () => {
    closed = true;
    onVisibility.disconnect();
    onSize.disconnect();
    onTheme.disconnect();
    model.off("change:figure", request);
    globalThis[LIBRARY]?.purge(chart);
  };
}

export default { render };
