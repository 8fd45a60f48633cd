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
      const names = own.yaxis.categoryarray;
      const cut = (name) => (name.length > 21 ? name.slice(0, 20) + "…" : name);
      own.yaxis = { ...own.yaxis, tickvals: names, ticktext: names.map(cut) };
    }
    return { ...base, ...own, xaxis: { ...axis, ...own.xaxis }, yaxis: { ...axis, ...own.yaxis } };
  }

  function draw() {
    for (const [id, chart] of Object.entries(charts)) {
      const place = document.getElementById(id);
      const narrow = place.clientWidth < 520;
      Plotly.react(place, themed(chart.data), layout(chart, narrow),
                   { displayModeBar: false, responsive: true });
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
  setTheme(wish.matches);
})();
