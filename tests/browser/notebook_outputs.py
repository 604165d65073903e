"""What the outputs of a notebook should show by its model and its kernel, and what they show on the page."""

from __future__ import annotations

# What each cell displays: widgets by model, plotly figures and pictures by number.
OUTPUTS = """() => window.jupyterapp.shell.currentWidget.content.widgets.map((cell) => {
  const shown = { widgets: [], plotly: 0, pictures: 0 };
  for (const { data = {} } of cell.model.outputs?.toJSON() ?? []) {
    const view = data['application/vnd.jupyter.widget-view+json'];
    if (view) shown.widgets.push(view.model_id);
    else if (data['application/vnd.plotly.v1+json']) shown.plotly += 1;
    else if (Object.keys(data).some((type) => type.startsWith('image/'))) shown.pictures += 1;
  }
  return shown;
})"""
# Printed by the kernel: for each of the lists of models in ``displayed``, the elements on the page by their selectors
# and the charts by their content; then all charts that have data. A training in a thread changes its charts until it
# has ended.
PARTS = """
import collections as _collections, json as _json, warnings as _warnings
import ipywidgets as _widgets
from vqlab.widgets.chart import Chart as _Chart
from vqlab.widgets.code_grid import CodeGrid as _CodeGrid
from vqlab.widgets.components import CodePatches as _CodePatches, UsageBars as _UsageBars
from vqlab.widgets.live import _running
from vqlab.widgets.plane_canvas import PlaneCanvas as _PlaneCanvas
_selectors = {{_Chart: ".vqlab-chart", _UsageBars: ".vqlab-usage-bars", _CodeGrid: ".vqlab-codes",
              _CodePatches: ".vqlab-code-patches", _PlaneCanvas: "svg.vqlab-plane", _widgets.Image: "img.widget-image"}}
def _content(widget):
    if isinstance(widget, _UsageBars):
        return [widget.content["title"], sorted((n for n in widget.content["tokens"] if n), reverse=True)]
    layout = widget.figure["layout"]
    title = layout["title"].get("text") or (layout.get("annotations") or [{{"text": ""}}])[0]["text"]
    return [title, [[trace["type"], len(trace["y"])] for trace in widget.figure["data"]]]
def _charts(all_widgets):
    return [_content(widget) for widget in all_widgets if isinstance(widget, (_Chart, _UsageBars))]
def _inside(widget):
    return [widget, *(part for child in getattr(widget, "children", ()) for part in _inside(child))]
def _parts(models):
    found = [part for model in models for part in _inside(_all[model])]
    kinds = [_selectors[kind] for part in found for kind in _selectors if isinstance(part, kind)]
    return {{"elements": _collections.Counter(kinds), "charts": _charts(found)}}
with _warnings.catch_warnings(action="ignore"):  # the registry of widgets is deprecated and has no successor
    _all = dict(_widgets.Widget.widgets)
for _training in list(_running):
    _training.wait()
print(_json.dumps([[_parts(models) for models in {displayed!r}], [c for c in _charts(_all.values()) if c[1]]]))
"""
# Whether the last cell is on the page and ends in view: JupyterLab adds the cells of an opened notebook while the page
# is idle, so that a slow page has an end before its last cell is there.
AT_END = """() => {
  const panel = window.jupyterapp.shell.currentWidget;
  const last = panel.content.widgets.at(-1).node;
  const area = panel.node.querySelector('.jp-WindowedPanel-outer').getBoundingClientRect();
  return last.isConnected && last.getBoundingClientRect().bottom <= area.bottom + 2;
}"""
# What is wrong with the cells, charts and pictures in view, and the charts in view by cell and content.
IN_VIEW = """(expected) => {
  const panel = window.jupyterapp.shell.currentWidget;
  // What the scrolled area cuts off is not in view, even if it would fit into the window.
  const area = panel.node.querySelector('.jp-WindowedPanel-outer').getBoundingClientRect();
  const inView = (node) => {
    const box = node.getBoundingClientRect();
    return box.width > 0 && box.bottom > area.top && box.top < area.bottom;
  };
  const problems = [], charts = [];
  panel.content.widgets.forEach((cell, index) => {
    if (!cell.node.isConnected || !inView(cell.node)) return;
    for (const [selector, count] of Object.entries(expected[index].elements)) {
      const found = cell.node.querySelectorAll(selector).length;
      if (found < count) problems.push(`cell ${index}: ${found} of ${count} ${selector}`);
    }
    const all = (selector) => [...cell.node.querySelectorAll(selector)].filter(inView);
    for (const chart of all('.vqlab-chart')) {
      const traces = chart.data ?? [];
      const content = traces.map((trace) => [trace.type, trace.y?.length ?? 0]);
      const title = chart.layout?.title?.text ?? chart.layout?.annotations?.[0]?.text ?? '';
      charts.push([index, [title, content]]);
      if (!chart.dataset.revision) problems.push(`chart not drawn: ${chart.textContent.slice(0, 80)}`);
      const count = (type) => traces.filter((t) => t.type === type).reduce((sum, t) => sum + t.y.length, 0);
      const bars = chart.querySelectorAll('.barlayer .point').length;
      if (bars !== count('bar')) problems.push(`${title}: ${bars} of ${count('bar')} bars`);
      for (const line of traces.filter((t) => t.mode === 'lines' && t.y.length > 1)) {
        const drawn = [...chart.querySelectorAll('.scatterlayer .js-line')].some((path) => path.getAttribute('d'));
        if (!drawn) problems.push(`${title}: no line`);
      }
    }
    for (const bars of all('.vqlab-usage-bars')) {
      const drawn = [...(bars.querySelector('.bars').getAttribute('d') ?? '').matchAll(/v-([0-9]+)/g)];
      const title = bars.querySelector('.vqlab-usage-title').textContent;
      if (!drawn.length || !title) problems.push('a histogram without bars');
      charts.push([index, [title, drawn.map((match) => Number(match[1]))]]);
    }
    for (const plot of all('.jp-RenderedPlotly')) {
      // A saved output is shown as a picture until the mouse is over it.
      const marks = plot.querySelectorAll('.trace, .heatmaplayer image, .imagelayer image, .plot-img[src]').length;
      if (!marks) problems.push('a plotly output without marks');
    }
    for (const picture of all('.jp-OutputArea-output img')) {
      const hidden = picture.closest('[style*="display: none"]');
      if (!hidden && !picture.naturalWidth) problems.push(`picture without pixels: ${picture.className}`);
    }
    for (const field of all('svg.vqlab-plane path.field')) {
      if (!field.getAttribute('d')) problems.push('a plane without arrows');
    }
    for (const grid of all('.vqlab-codes')) {
      const sprite = grid.style.getPropertyValue('--sprite');
      if (!grid.querySelector('[data-code]') || sprite.length < 20) problems.push('a grid of codes without patches');
    }
    for (const node of all('.jp-OutputArea-output')) {
      if (node.querySelector('[transform*="NaN"]')) problems.push('NaN in a transform');
      if (/widget model not found|Error displaying widget/i.test(node.textContent)) problems.push(node.textContent);
      // A reopened notebook restores its widgets after its outputs are on the page.
      if (node.textContent.trim().startsWith('Loading widget')) problems.push('a widget that is still loading');
    }
  });
  return { problems, charts };
}"""
