"use strict";
(function () {
  const root = document.documentElement;
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();

  // Colours are named in the data ("@model") so that one chart serves both themes.
  function themed(value) {
    if (typeof value === "string" && value.startsWith("@")) return colour(value.slice(1));
    if (Array.isArray(value)) return value.map(themed);
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, themed(v)]));
    return value;
  }

  function layout(chart, narrow) {
    const axis = { gridcolor: colour("line"), linecolor: colour("line"), zeroline: false,
                   automargin: true, tickfont: { size: narrow ? 10 : 12 } };
    const base = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colour("ink"), family: getComputedStyle(document.body).fontFamily, size: 12 },
      margin: { l: 10, r: 14, t: 34, b: 10 }, hoverlabel: { align: "left" }, dragmode: false,
    };
    const own = themed(chart.layout);
    if (narrow && own.yaxis && own.yaxis.categoryarray) {
      // Beside the axis long names would leave no room for the intervals; above them they do.
      const names = own.yaxis.categoryarray, bars = own.barmode === "stack";
      if (bars) own.bargap = 0.62;
      own.yaxis = { ...own.yaxis, showticklabels: false };
      own.height += (bars ? 12 : 14) * names.length;
      own.annotations = (own.annotations || []).concat(names.map((name) => ({
        x: 0, xref: "paper", xanchor: "left", y: name, yanchor: "bottom", yshift: bars ? 8 : 5, text: name,
        showarrow: false, align: "left", font: { size: 11 }, bgcolor: colour("paper"), borderpad: 0,
      })));
      own.margin = { l: 4, r: 8, t: 34, b: 10 };
    }
    if (narrow && own.xaxis && own.xaxis.title)
      own.xaxis = { ...own.xaxis,
                    title: { text: own.xaxis.title.text.replace(": ", ":<br>"), font: { size: 11 } } };
    return { ...base, ...own, xaxis: { ...axis, ...own.xaxis }, yaxis: { ...axis, ...own.yaxis } };
  }

  // Names of points: each goes above or below its point, inside the frame, where none lies yet.
  function spread(place, shown) {
    const { xaxis, yaxis } = place._fullLayout;
    const pen = document.createElement("canvas").getContext("2d");
    pen.font = "10px " + getComputedStyle(document.body).fontFamily;
    const points = shown.annotations.filter((note) => note.name === "row").map((note) =>
      ({ note, x: xaxis.l2p(note.x), y: yaxis.l2p(note.y), half: pen.measureText(note.text).width / 2 + 3 }));
    const taken = points.map((p) => [p.x - 6, p.y - 6, p.x + 6, p.y + 6]);
    const free = (b) => taken.every((t) => b[2] <= t[0] || t[2] <= b[0] || b[3] <= t[1] || t[3] <= b[1]);
    for (const p of points) {
      const centre = Math.max(p.half, Math.min(xaxis._length - p.half, p.x));
      const boxes = [15, -15, 28, -28, 41, -41, 54, -54].map((up) =>
        ({ up, box: [centre - p.half, p.y - up - 6, centre + p.half, p.y - up + 6] }));
      const fits = ({ box }) => box[1] > -14 && box[3] < yaxis._length;
      const found = boxes.find((b) => fits(b) && free(b.box)) || boxes[0];
      taken.push(found.box);
      Object.assign(p.note, { xshift: centre - p.x, yshift: found.up });
    }
    return Plotly.relayout(place, { annotations: shown.annotations });
  }

  function draw() {
    for (const [id, chart] of Object.entries(charts)) {
      const place = document.getElementById(id);
      const shown = layout(chart, place.clientWidth < 520);
      place.style.height = shown.height + "px";
      Plotly.react(place, themed(chart.data), shown, { displayModeBar: false, responsive: true });
      if ((shown.annotations || []).some((note) => note.name === "row")) spread(place, shown);
    }
  }

  function setTheme(dark) {
    root.dataset.theme = dark ? "dark" : "light";
    document.querySelector("button.theme").textContent = dark ? "light" : "dark";
    draw();
  }

  function sortBy(header) {
    const table = header.closest("table");
    const place = [...header.parentNode.children].indexOf(header);
    const ascending = header.getAttribute("aria-sort") !== "ascending";
    for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const key = (row) => row.children[place].dataset.value ?? row.children[place].textContent;
    const rows = [...table.tBodies[0].rows];
    rows.sort((one, two) => {
      const a = key(one), b = key(two);
      if (a === "" || b === "") return (a === "") - (b === "");  // unknown always comes last
      const order = isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
      return ascending ? order : -order;
    });
    table.tBodies[0].append(...rows);
  }

  document.querySelectorAll("th button").forEach((button) =>
    button.addEventListener("click", () => sortBy(button.parentNode)));
  const wish = window.matchMedia("(prefers-color-scheme: dark)");
  document.querySelector("button.theme").addEventListener("click", () =>
    setTheme(root.dataset.theme !== "dark"));
  wish.addEventListener("change", (event) => setTheme(event.matches));
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth !== width) { width = window.innerWidth; draw(); }
  });
  setTheme(wish.matches);
})();
