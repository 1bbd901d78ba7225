// Figures by Vega-Lite in place of their still pictures, which stay for paper.
const dark = matchMedia("(prefers-color-scheme: dark)");

function look(width) {
  const paper = getComputedStyle(document.documentElement);
  const tone = (name) => paper.getPropertyValue(name).trim();
  const ink = tone("--ink"), faint = tone("--faint"), line = tone("--line");
  const font = getComputedStyle(document.body).fontFamily;
  const lines = dark.matches
    ? ["#56b4e9", "#e69f00", "#2fc495", "#e08fc0", "#e4e7ea", "#8fb8ff", "#ff8a4d", "#9aa5af"]
    : ["#0072b2", "#c77f00", "#009e73", "#b95d90", "#1d2125", "#3a8fc0", "#d55e00", "#6f7780"];
  return {
    background: null,
    font,
    axis: {
      labelColor: ink, titleColor: ink, gridColor: line, domainColor: faint, tickColor: faint,
      labelFontSize: 12, titleFontSize: 13, titleFontWeight: "normal", labelOverlap: "parity",
    },
    header: { labelColor: ink, titleColor: ink, labelFontSize: 13, labelFontWeight: 600, labelLimit: 320 },
    legend: {
      labelColor: ink, titleColor: ink, labelFontSize: 12, titleFontSize: 12, labelLimit: 240,
      orient: "bottom", columns: Math.max(1, Math.floor(Math.min(width, 900) / 250)), symbolOpacity: 1, symbolBaseFillColor: ink, symbolBaseStrokeColor: ink,
    },
    title: { color: ink },
    view: { stroke: line },
    rule: { color: faint },
    text: { color: ink },
    mark: { color: lines[0] },
    style: { ink: { color: ink, stroke: ink }, faint: { color: faint, stroke: faint } },
    range: { category: lines },
  };
}

function fit(spec, width) {
  if (spec.concat) {
    const around = Math.max(...spec.concat.map((view) => view.usermeta?.around ?? 100));
    spec.columns = Math.max(1, Math.floor(width / (spec.concat[0].width + around)));
    for (const view of spec.concat) {
      view.width = Math.max(around > 100 ? 160 : 200, Math.min(view.width, width - around));
    }
    return;
  }
  const panel = spec.facet ? spec.spec : spec;
  if (typeof panel.width === "object") {
    // Cells have their size: as many panels in a row as fit.
    if (spec.facet) {
      const cells = new Set(spec.data.values.map((row) => row.across)).size;
      spec.columns = Math.max(1, Math.floor((width - 130) / (cells * panel.width.step + 110)));
    }
    return;
  }
  if (spec.facet) {
    const wanted = panel.width ?? 300, around = 90;
    spec.columns = Math.max(1, Math.floor(width / (wanted + around)));
    panel.width = Math.max(160, Math.min(wanted, width - around));
  } else {
    spec.width = Math.max(260, Math.min(width, panel.width ?? 900));
    spec.autosize = { type: "fit-x", contains: "padding" };
  }
}

function tell(handler, event, item, value) {
  if (value == null || value === "") return hideTip();
  const rows = typeof value === "object"
    ? Object.entries(value).map(([name, text]) => [name, String(text ?? "–")])
    : [["", String(value)]];
  showTip(rows, event.clientX, event.clientY);
}

async function drawChart(figure) {
  const spec = JSON.parse(figure.querySelector("script").textContent);
  const width = figure.clientWidth - 4;
  if (width <= 0) return;
  fit(spec, width);
  figure.drawnWidth = width;
  const host = figure.querySelector(".chart");
  try {
    await vegaEmbed(host, spec, {
      mode: "vega-lite", ast: true, actions: false, renderer: "svg", defaultStyle: false, tooltip: tell,
      // A legend is as wide as its panel.
      config: look(spec.concat ? 420 : width),
    });
    figure.classList.add("live");
  } catch (error) {
    // The still picture is there.
    console.error(error);
  }
}

function drawCharts(all) {
  for (const figure of document.querySelectorAll("figure.interactive")) {
    if (all || figure.clientWidth - 4 !== figure.drawnWidth) drawChart(figure);
  }
}

if (typeof vegaEmbed === "function") {
  drawCharts(true);
  dark.addEventListener("change", () => drawCharts(true));
  let waiting;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(drawCharts, 200);
  });
  document.addEventListener("toggle", () => drawCharts(false), true);
}
