// The map of the embeddings: details of the image under the pointer, a legend that filters, and
// other things to color by. Without this script the map shows the labels.
(() => {
  "use strict";
  const find = (id) => document.getElementById(id);
  const data = JSON.parse(find("atlas-data").textContent);
  const [map, detail, hint] = [find("atlas-map"), find("atlas-detail"), find("atlas-hint")];
  const svg = map.querySelector("svg");
  const [N_COLORS, N_SHAPES] = [12, 6];
  const PARTS = ["test", "labeled", "unlabeled"];
  const GROUPS = { label: data.names, prediction: data.names, pseudo: data.names, part: PARTS };
  const UNKNOWN = { label: "unknown", prediction: "unknown", pseudo: "no pseudo-label" };
  // How far from a point the pointer may be, in CSS pixels.
  const REACH = 22;

  const points = Array.from(svg.querySelectorAll("use"), (mark, index) => ({
    mark, index, x: Number(mark.getAttribute("x")), y: Number(mark.getAttribute("y")),
  }));
  let overlay = "label";
  let hidden = new Set();
  let here = null;

  const colorClass = (group) => (group < 0 ? "none" : "c" + (group % N_COLORS));
  const shapeOf = (group) =>
    group < 0 ? 0 : (group + Math.floor(group / N_COLORS)) % N_SHAPES;
  const groupOf = (point) => data[overlay][point.index];
  const isShown = (point) => !hidden.has(groupOf(point));
  const className = (group) => (group < 0 ? "–" : data.names[group]);

  function draw() {
    for (const point of points) {
      const group = groupOf(point);
      const label = data.label[point.index];
      const isWrong = label >= 0 && data.prediction[point.index] !== label;
      const isOutlined = overlay === "prediction" ? isWrong : data.part[point.index] === 1;
      point.mark.setAttribute("href", "#mark-" + shapeOf(group));
      point.mark.setAttribute("class", colorClass(group));
      point.mark.classList.toggle("outlined", isOutlined);
      point.mark.classList.toggle("off", !isShown(point));
      point.mark.classList.toggle("here", point === here);
    }
  }

  function key(group) {
    const icon = document.createElementNS(svg.namespaceURI, "svg");
    icon.setAttribute("class", "mark-key " + colorClass(group));
    icon.setAttribute("viewBox", "-5 -5 10 10");
    icon.setAttribute("aria-hidden", "true");
    const shape = document.createElementNS(svg.namespaceURI, "path");
    shape.setAttribute("d", find("mark-" + shapeOf(group)).getAttribute("d"));
    icon.append(shape);
    return icon;
  }

  function button(text, count, onClick, item) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(text);
    if (count) {
      const number = document.createElement("span");
      number.textContent = count.toLocaleString("en");
      button.append(number);
    }
    button.addEventListener("click", onClick);
    item.append(button);
    return button;
  }

  function item(className) {
    const item = document.createElement("li");
    item.className = className;
    find("atlas-legend").append(item);
    return item;
  }

  function legend() {
    find("atlas-legend").replaceChildren();
    const names = GROUPS[overlay];
    const counts = new Map();
    for (const point of points) {
      counts.set(groupOf(point), (counts.get(groupOf(point)) || 0) + 1);
    }
    const groups = [...counts.keys()].sort((a, b) => a - b);
    for (const group of groups) {
      const name = group < 0 ? UNKNOWN[overlay] : names[group];
      const toggle = button(name, counts.get(group), () => {
        hidden.has(group) ? hidden.delete(group) : hidden.add(group);
        toggle.setAttribute("aria-pressed", String(!hidden.has(group)));
        draw();
      }, item(""));
      toggle.prepend(key(group));
      toggle.setAttribute("aria-pressed", String(!hidden.has(group)));
    }
    if (groups.length > 1) {
      const row = item("all");
      const hide = (these, which) => {
        hidden = new Set(these);
        legend();
        draw();
        // The buttons are new ones; the keyboard stays where it was.
        find("atlas-legend").querySelectorAll(".all button")[which].focus();
      };
      button("show all", 0, () => hide([], 0), row);
      button("hide all", 0, () => hide(groups, 1), row);
    }
  }

  function show(point) {
    if (point === here) { return; }
    if (here) { here.mark.classList.remove("here"); }
    here = point;
    detail.hidden = !point;
    hint.hidden = Boolean(point);
    if (!point) { return; }
    point.mark.classList.add("here");
    const [i, thumb, list] = [point.index, detail.querySelector(".thumb"), detail.querySelector("dl")];
    thumb.hidden = data.columns === 0;
    thumb.style.setProperty("--column", data.tile[i] % data.columns);
    thumb.style.setProperty("--row", Math.floor(data.tile[i] / data.columns));
    const confidence = data.confidence[i];
    const sure = confidence === null ? "" : " (" + (100 * confidence).toFixed(1) + " %)";
    const rows = [["Label", className(data.label[i])], ["Prediction", className(data.prediction[i]) + sure]];
    if (data.pseudo[i] >= 0) { rows.push(["Pseudo-label", className(data.pseudo[i])]); }
    rows.push(["Part", PARTS[data.part[i]]], ["Image", data.id[i]]);
    list.replaceChildren(...rows.flatMap(([name, value]) => {
      const [term, text] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = name;
      text.textContent = value;
      return [term, text];
    }));
  }

  function nearest(cost) {
    let [best, least] = [null, Infinity];
    for (const point of points.filter(isShown)) {
      const value = cost(point);
      if (value < least) { [best, least] = [point, value]; }
    }
    return best;
  }

  function follow(event) {
    const screen = svg.getScreenCTM();
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(screen.inverse());
    const distance = (point) => Math.hypot(point.x - at.x, point.y - at.y);
    const point = nearest(distance);
    if (point && distance(point) * screen.a <= REACH) { show(point); }
  }

  // From the point at hand to the nearest one in a direction; first the one nearest the middle.
  function step(event) {
    const direction = {
      ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
    }[event.key];
    if (event.key === "Escape") { show(null); }
    if (!direction) { return; }
    event.preventDefault();
    const box = svg.viewBox.baseVal;
    const from = here || { x: box.width / 2, y: box.height / 2 };
    const next = nearest((point) => {
      const [dx, dy] = [point.x - from.x, point.y - from.y];
      const along = dx * direction[0] + dy * direction[1];
      const aside = Math.abs(dx * direction[1]) + Math.abs(dy * direction[0]);
      if (!here) { return Math.hypot(dx, dy); }
      return along > 0 ? along + 2 * aside : Infinity;
    });
    if (next) { show(next); }
  }

  find("atlas-overlays").hidden = false;
  hint.parentElement.hidden = false;
  map.tabIndex = 0;
  map.setAttribute("role", "group");
  map.setAttribute("aria-label", "Map of the embeddings; the arrow keys go from image to image");
  map.addEventListener("pointermove", follow);
  map.addEventListener("click", follow);
  map.addEventListener("keydown", step);
  find("atlas-overlays").addEventListener("change", (event) => {
    overlay = event.target.value;
    hidden = new Set();
    legend();
    draw();
  });
  legend();
})();
