"use strict";
(() => {
  const root = document.documentElement;
  const plots = [...document.querySelectorAll(".plot")];
  const PRINT_PX = 660;
  const PRINT_HIGH_PX = 320;
  const USUAL_PX = 460;
  const NARROW_PX = 560;
  const drawn = new Set();
  let plotly = null;

  // Colours of the page and its figures: those of the system, or those the reader chose.

  function remembered() {
    try { return localStorage.getItem("canopy-theme") || ""; } catch { return ""; }
  }

  function choose(theme) {
    if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
    try { localStorage.setItem("canopy-theme", theme); } catch { /* a local file may have no storage */ }
    for (const button of document.querySelectorAll(".theme button")) {
      button.setAttribute("aria-pressed", String(button.dataset.theme === theme));
    }
    recolour();
  }

  function colours() {
    const style = getComputedStyle(root);
    const of = (name) => style.getPropertyValue(name).trim();
    return { paper: of("--paper"), ink: of("--ink"), soft: of("--soft"), line: of("--line"), font: of("--plain") };
  }

  function dataOf(figure) {
    const { ink } = colours();
    return figure.data.map((trace) => trace.type === "heatmap" ? { ...trace, textfont: { color: ink } } : trace);
  }

  function layoutOf(plot) {
    const figure = plot.figure;
    const { paper, ink, soft, line, font } = colours();
    const layout = structuredClone(figure.layout);
    const base = layout.template.layout;
    base.font = { ...base.font, color: soft, family: font };
    base.title = { ...base.title, font: { ...base.title?.font, color: ink } };
    base.hoverlabel = { ...base.hoverlabel, bgcolor: paper, bordercolor: line, font: { color: ink, family: font } };
    base.annotationdefaults = { ...base.annotationdefaults, font: { color: soft }, bgcolor: paper };
    for (const axis of ["xaxis", "yaxis"]) {
      Object.assign(base[axis], { gridcolor: line, linecolor: line, zerolinecolor: line, tickcolor: line });
    }
    // Changes that a figure requests for narrow pages.
    const narrow = plot.clientWidth < NARROW_PX && layout.meta?.narrow;
    for (const [part, changes] of Object.entries(narrow || {})) Object.assign(layout[part], changes);
    base.paper_bgcolor = base.plot_bgcolor = "rgba(0,0,0,0)";
    return layout;
  }

  // Figures: the visible ones first, the others when the browser is idle.

  async function load() {
    const packed = document.getElementById("plotly-js").textContent;
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    plotly = window.Plotly;
  }

  function draw(plot) {
    if (!plotly || drawn.has(plot)) return;
    drawn.add(plot);
    const figure = JSON.parse(plot.querySelector("script").textContent);
    plot.figure = figure;
    const isTouched = matchMedia("(pointer: coarse)").matches;
    if (isTouched) figure.layout.dragmode = false;  // so that a finger scrolls the page
    plotly.newPlot(plot, dataOf(figure), layoutOf(plot), { responsive: true, displayModeBar: false });
  }

  function drawAll() { plots.forEach(draw); }

  function recolour() {
    for (const plot of drawn) plotly.react(plot, dataOf(plot.figure), layoutOf(plot));
  }

  function drawInTurn() {
    const next = plots.find((plot) => !drawn.has(plot));
    if (!next) { root.dataset.drawn = "all"; return; }
    draw(next);
    (window.requestIdleCallback || setTimeout)(drawInTurn);
  }

  async function show() {
    try {
      await load();
    } catch (error) {
      for (const plot of plots) {
        plot.replaceChildren("This browser is too old to draw the figure; the text above says what it shows.");
        plot.style.height = "auto";
      }
      console.error(error);
      return;
    }
    const observer = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) draw(entry.target);
    }, { rootMargin: "300px" });
    plots.forEach((plot) => observer.observe(plot));
    setTimeout(drawInTurn, 200);
  }

  // A printed page is light and narrow; two figures fit on a page.

  addEventListener("beforeprint", () => {
    drawAll();
    root.dataset.theme = "light";
    for (const plot of drawn) {
      plot.dataset.height = plot.style.height;
      if (plot.clientHeight <= USUAL_PX) plot.style.height = `${Math.min(plot.clientHeight, PRINT_HIGH_PX)}px`;
      const size = { width: Math.min(PRINT_PX, plot.clientWidth), height: plot.clientHeight };
      plotly.react(plot, dataOf(plot.figure), { ...layoutOf(plot), ...size });
    }
  });
  addEventListener("afterprint", () => {
    for (const plot of drawn) plot.style.height = plot.dataset.height;
    choose(remembered());
  });

  // Tables: a click on a heading sorts, a second click reverses; rows without a value stay last.

  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

  function keyOf(cell, isNumber) {
    if (!isNumber) return cell.textContent;
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  }

  function compare(a, b, sign) {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (typeof a === "number" ? a - b : collator.compare(a, b));
  }

  function sort(table, heading) {
    const index = [...heading.parentElement.children].indexOf(heading);
    const isNumber = heading.classList.contains("number");
    const before = heading.getAttribute("aria-sort");
    const first = isNumber && index > 0 ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = before === first ? other : first;
    for (const each of heading.parentElement.children) each.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => [keyOf(row.cells[index], isNumber), row]);
    keyed.sort(([a], [b]) => compare(a, b, sign));
    body.append(...keyed.map(([, row]) => row));
  }

  function filter(form, table) {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const choices = [...form.querySelectorAll("select")].filter((select) => select.value);
    const rows = [...table.tBodies[0].rows];
    let shown = 0;
    for (const row of rows) {
      const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
      row.hidden = !(
        words.every((word) => text.includes(word)) &&
        choices.every((select) => row.cells[select.dataset.column].textContent === select.value)
      );
      shown += !row.hidden;
    }
    form.querySelector("output").value = `${shown} of ${rows.length}`;
  }

  for (const block of document.querySelectorAll(".table")) {
    const table = block.querySelector("table");
    for (const heading of table.tHead.rows[0].cells) {
      heading.querySelector("button").addEventListener("click", () => sort(table, heading));
    }
    const form = block.querySelector("form");
    if (!form) continue;
    form.addEventListener("input", () => filter(form, table));
    form.addEventListener("submit", (event) => event.preventDefault());
    filter(form, table);  // the browser may restore earlier input
  }

  const themes = document.querySelector(".theme");
  themes.hidden = false;
  for (const button of themes.querySelectorAll("button")) {
    button.addEventListener("click", () => choose(button.dataset.theme));
  }
  choose(remembered());
  for (const query of ["(prefers-color-scheme: dark)", "(max-width: 40rem)"]) {
    matchMedia(query).addEventListener("change", recolour);
  }
  if (plots.length && document.getElementById("plotly-js")) show();
})();
