"use strict";
(function () {
  const view = document.getElementById("slices-view");
  if (!view) return;  // no case has an answer to be seen
  const { rows, classes, cases } = JSON.parse(document.getElementById("slices-data").textContent);
  const part = (name) => document.getElementById("slices-" + name);
  const [place, areas, chosenCase, chosenRow] = ["place", "areas", "case", "row"].map(part);
  const shown = { reference: part("reference"), prediction: part("prediction") };
  const unpacked = new Map();  // masks of slices that were looked at
  const pictures = new Map();
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

  // Runs of three bytes: a label, and how many pixels have it, low byte first.
  function mask(key, text, pixels) {
    if (!unpacked.has(key)) {
      if (unpacked.size > 400) unpacked.clear();
      const packed = bytes(text), labels = new Uint8Array(pixels);
      for (let at = 0, pixel = 0; at < packed.length; at += 3) {
        const length = packed[at + 1] + 256 * packed[at + 2];
        labels.fill(packed[at], pixel, pixel + length);
        pixel += length;
      }
      unpacked.set(key, labels);
    }
    return unpacked.get(key);
  }

  const current = () => cases[chosenCase.value];
  const masks = (one) => ({ reference: one.reference, prediction: one.masks[chosenRow.value] });

  function labelsOf(one, which, slice) {
    const packed = masks(one)[which];
    if (!packed) return null;
    const key = [one.id, which === "reference" ? "" : chosenRow.value, slice].join("\u0000");
    return mask(key, packed[slice], one.size[0] * one.size[1]);
  }

  function picture(one, slice) {
    const key = one.id + "\u0000" + slice;
    if (!pictures.has(key)) {
      if (pictures.size > 400) pictures.clear();
      const image = new Image();
      image.src = "data:image/jpeg;base64," + one.images[slice];
      pictures.set(key, image);
    }
    return pictures.get(key);
  }

  function colourOf(text) {
    return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
  }

  function fill(pen, labels, [height, width], box) {
    const sheet = new OffscreenCanvas(width, height), own = sheet.getContext("2d");
    const pixels = own.createImageData(width, height);
    const colours = Object.fromEntries(Object.entries(classes).map(([k, c]) => [k, colourOf(c.fill)]));
    for (let at = 0; at < labels.length; at++)
      if (labels[at]) pixels.data.set([...(colours[labels[at]] || [255, 255, 255]), 107], 4 * at);
    own.putImageData(pixels, 0, 0);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(sheet, 0, 0, ...box);
  }

  // The outline of each class along the borders of its pixels.
  function outline(pen, labels, [height, width], box) {
    const sx = box[0] / width, sy = box[1] / height;
    const at = (y, x) => (y < 0 || x < 0 || y >= height || x >= width ? 0 : labels[y * width + x]);
    for (const label of new Set(labels)) {
      if (!label) continue;
      pen.beginPath();
      for (let y = 0; y <= height; y++)
        for (let x = 0; x <= width; x++) {
          const here = at(y, x) === label;
          if (here !== (at(y - 1, x) === label)) { pen.moveTo(x * sx, y * sy); pen.lineTo((x + 1) * sx, y * sy); }
          if (here !== (at(y, x - 1) === label)) { pen.moveTo(x * sx, y * sy); pen.lineTo(x * sx, (y + 1) * sy); }
        }
      pen.strokeStyle = (classes[label] || { line: "#ffffff" }).line;
      pen.lineWidth = 2 * (window.devicePixelRatio || 1);
      pen.lineCap = "square";
      pen.stroke();
    }
  }

  function draw() {
    const one = current(), slice = Number(place.value), [height, width] = one.size;
    const ratio = window.devicePixelRatio || 1;
    const tall = (height * one.aspect) / width;  // of the picture in space
    const wide = Math.min(view.parentNode.clientWidth - 28, 620, 620 / tall);
    view.style.width = wide + "px";
    view.style.height = wide * tall + "px";
    const box = [Math.round(wide * ratio), Math.round(wide * tall * ratio)];
    [view.width, view.height] = box;
    const pen = view.getContext("2d");
    const image = picture(one, slice);
    if (!image.complete) image.addEventListener("load", draw, { once: true });
    else {
      pen.imageSmoothingEnabled = width > 128;
      pen.drawImage(image, 0, 0, ...box);
    }
    const labels = Object.fromEntries(Object.keys(shown).map((which) => [which, labelsOf(one, which, slice)]));
    if (shown.reference.checked && labels.reference) fill(pen, labels.reference, one.size, box);
    if (shown.prediction.checked && labels.prediction) outline(pen, labels.prediction, one.size, box);
    if (one.sides) letters(pen, one.sides, box, ratio);
    tell(one, slice, labels);
    travel(one, slice);
  }

  // Which side of the patient lies to the left, and which at the top.
  function letters(pen, [left, top], [wide, tall], ratio) {
    pen.font = `bold ${13 * ratio}px sans-serif`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineWidth = 3 * ratio;
    pen.strokeStyle = "#000";
    pen.fillStyle = "#fff";
    for (const [letter, x, y] of [[left, 11 * ratio, tall / 2], [top, wide / 2, 11 * ratio]]) {
      pen.strokeText(letter, x, y);
      pen.fillText(letter, x, y);
    }
  }

  function tell(one, slice, labels) {
    const row = chosenRow.value, packed = one.masks[row];
    let text = `${one.id}, ${chosenRow.selectedOptions[0].textContent}: ${one.told[row] || "no score"}`;
    if (packed === null) text += "; its mask is too ragged to be shown here";
    if (packed === undefined) text += "; no mask";
    if (one.shrunk > 1) text += `; shown at 1/${one.shrunk} of its size`;
    part("told").textContent = text;
    const number = one.slices[slice];
    const thinned = one.slices.length < one.of ? ` (${one.slices.length} shown)` : "";
    part("where").textContent = one.of === 1 ? "a picture" : `slice ${number} of ${one.of}${thinned}`;
    const count = (which) => (labels[which] ? labels[which].reduce((sum, label) => sum + (label > 0), 0) : 0);
    view.setAttribute("aria-label", `${text}; slice ${number} of ${one.of}: reference ` +
      `${count("reference")} pixels, prediction ${count("prediction")} pixels` +
      (one.sides ? `; ${one.sides[0]} is to the left, ${one.sides[1]} at the top` : ""));
  }

  // How much of each slice reference and prediction take: where it is worth looking.
  function travel(one, slice) {
    const ratio = window.devicePixelRatio || 1, n = one.slices.length;
    areas.style.display = place.style.display = n > 1 ? "" : "none";
    if (n < 2) return;
    const wide = (areas.width = Math.round(areas.clientWidth * ratio));
    const high = (areas.height = Math.round(areas.clientHeight * ratio));
    const pen = areas.getContext("2d");
    const colours = Object.values(classes)[0] || { fill: "#888888", line: "#bbbbbb" };
    const sums = Object.fromEntries(["reference", "prediction"].map((which) => [which,
      one.slices.map((_, at) => {
        const labels = labelsOf(one, which, at);
        return labels ? labels.reduce((sum, label) => sum + (label > 0), 0) : 0;
      })]));
    const most = Math.max(1, ...sums.reference, ...sums.prediction), step = wide / n;
    const style = getComputedStyle(document.documentElement);
    pen.fillStyle = style.getPropertyValue("--line");
    pen.fillRect(slice * step, 0, Math.max(step, 2), high);
    pen.globalAlpha = 0.75;
    pen.fillStyle = colours.fill;
    sums.reference.forEach((sum, at) => pen.fillRect(at * step, high * (1 - sum / most), Math.max(step - 1, 1), high));
    pen.globalAlpha = 1;
    pen.strokeStyle = colours.line;
    pen.lineWidth = 1.5 * ratio;
    pen.beginPath();
    sums.prediction.forEach((sum, at) => {
      const y = 1 + (high - 2) * (1 - sum / most);
      pen.lineTo(at * step, y);
      pen.lineTo((at + 1) * step, y);
    });
    pen.stroke();
  }

  function openCase() {
    const one = current();
    place.max = one.slices.length - 1;
    place.value = one.start;
    draw();
  }

  function go(to) {
    place.value = Math.max(0, Math.min(current().slices.length - 1, to));
    draw();
  }

  function turn(list, by, then) {
    list.selectedIndex = (list.selectedIndex + by + list.options.length) % list.options.length;
    then();
  }

  function toggle(box) { box.checked = !box.checked; draw(); }

  const keys = {
    ArrowLeft: () => go(Number(place.value) - 1), ArrowRight: () => go(Number(place.value) + 1),
    Home: () => go(0), End: () => go(Infinity),
    n: () => turn(chosenRow, 1, draw), m: () => turn(chosenRow, -1, draw),
    ".": () => turn(chosenCase, 1, openCase), ",": () => turn(chosenCase, -1, openCase),
    r: () => toggle(shown.reference), p: () => toggle(shown.prediction),
  };
  document.addEventListener("keydown", (event) => {
    const own = event.target.closest && event.target.closest("select, input, textarea, button, a");
    const arrows = event.key.startsWith("Arrow") || event.key === "Home" || event.key === "End";
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    // Lists and sliders have arrows and letters of their own; the rest of the page keeps Home and End.
    if (own && (own.tagName === "SELECT" || arrows)) return;
    if ((event.key === "Home" || event.key === "End") && event.target !== view) return;
    event.preventDefault();
    keys[event.key]();
  });
  view.addEventListener("wheel", (event) => {
    if (document.activeElement !== view) return;  // else the page would stick to the picture
    event.preventDefault();
    go(Number(place.value) + Math.sign(event.deltaY));
  }, { passive: false });
  areas.addEventListener("click", (event) =>
    go(Math.floor((event.offsetX / areas.clientWidth) * current().slices.length)));
  place.addEventListener("input", draw);
  chosenCase.addEventListener("change", openCase);
  chosenRow.addEventListener("change", draw);
  Object.values(shown).forEach((box) => box.addEventListener("change", draw));
  window.addEventListener("resize", draw);
  new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  const first = rows.find((row) => cases[0].masks[row]);
  if (first) chosenRow.value = first;
  openCase();
})();
