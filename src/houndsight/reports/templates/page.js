// What the page can do beyond being read: charts, zoom, sorting, copying. No network.
(() => {
  "use strict";
  const holder = document.getElementById("chart-data");
  const charts = holder ? JSON.parse(holder.textContent) : {};
  const views = new Map();

  const domainOf = (id, field) => {
    const value = views.get(id).signal("zoom_" + field);
    return value && value.length ? value : null;
  };

  // The curves share their steps: what one shows, all show.
  let sharing = false;
  const share = (from) => {
    if (sharing) return;
    sharing = true;
    const shown = domainOf(from, "step");
    for (const [id, view] of views) {
      if (id !== from && charts[id].zoom[0] === "step") view.signal("zoom_step", shown).run();
    }
    sharing = false;
  };

  const zoom = (id, way) => {
    const view = views.get(id);
    for (const field of charts[id].zoom) {
      const full = charts[id].extent[field];
      let [low, high] = domainOf(id, field) || full;
      const middle = (low + high) / 2;
      const half = ((high - low) / 2) * (way === "in" ? 0.5 : 2);
      const whole = way === "reset" || 2 * half >= Math.abs(full[1] - full[0]);
      const turned = full[0] > full[1] ? -1 : 1;
      low = middle - half; high = middle + half;
      const least = Math.min(...full), most = Math.max(...full), width = Math.abs(high - low);
      if (Math.min(low, high) < least) { low = turned > 0 ? least : least + width; high = turned > 0 ? least + width : least; }
      if (Math.max(low, high) > most) { high = turned > 0 ? most : most - width; low = turned > 0 ? most - width : most; }
      view.signal("zoom_" + field, whole ? null : [low, high]);
    }
    view.run();
  };

  const draw = async (plot) => {
    const id = plot.dataset.chart;
    const chart = charts[id];
    plot.replaceChildren();
    const { view } = await vegaEmbed(plot, chart.spec, {
      actions: false, ast: true, renderer: "svg", tooltip: { disableDefaultStyle: true, theme: "page" },
    });
    const svg = plot.querySelector("svg");
    svg.setAttribute("aria-hidden", "true");
    views.set(id, view);
    if (!chart.zoom.length) return;
    chart.extent = {};
    chart.zoom.forEach((field, place) => {
      chart.extent[field] = view.scale(place ? "y" : "x").domain().map(Number);
      view.addSignalListener("zoom_" + field, () => { if (field === "step") share(id); });
    });
    const tools = plot.closest("figure").querySelector(".zoom");
    if (!tools) return;
    tools.hidden = false;
    tools.addEventListener("click", (event) => {
      const way = event.target.dataset.zoom;
      if (way) zoom(id, way);
    });
  };

  const plots = [...document.querySelectorAll("[data-chart]")];
  const drawAll = async () => {
    for (const plot of plots) await draw(plot);
  };
  drawAll();
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((each) => { each.open = true; });
  });

  // Maps: one byte a cell, drawn on a canvas in the page's colours.
  const mapHolder = document.getElementById("map-data");
  const maps = mapHolder ? JSON.parse(mapHolder.textContent) : {};
  const say = (value, shares) => {
    if (shares) return (100 * value).toFixed(1) + "\u202f%";
    return value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5) ? value.toExponential(1) : String(+value.toPrecision(3));
  };
  const colourOf = (text) => {
    const hex = text.trim().slice(1);
    return [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));
  };
  const drawMap = (canvas) => {
    const map = maps[canvas.dataset.map], rows = map.rows.length, columns = map.columns.length;
    map.codes ||= Uint8Array.from(atob(map.cells), (each) => each.charCodeAt(0));
    const style = getComputedStyle(document.documentElement), names = map.ramp === "around" ? ["--d0", "--d1", "--d2"] : ["--h0", "--h1", "--h2"];
    const stops = names.map((name) => colourOf(style.getPropertyValue(name))), bad = colourOf(style.getPropertyValue("--bad"));
    const each = Math.max(5, Math.min(22, 460 / rows)), foot = 34, top = 2;
    canvas.style.height = Math.ceil(rows * each + foot + top) + "px";
    const width = canvas.clientWidth, height = canvas.clientHeight, ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
    const ink = canvas.getContext("2d");
    ink.scale(ratio, ratio);
    ink.font = "11px " + getComputedStyle(document.body).fontFamily;
    const widest = Math.max(...map.rows.map((name) => ink.measureText(name).width));
    const left = Math.ceil(Math.min(widest, width * 0.36)) + 8, across = width - left - 1;
    map.place = { left, top, across, each };
    const image = new ImageData(columns, rows);
    map.codes.forEach((code, at) => {
      if (!code) return;
      const share = 2 * (Math.min(code, 254) - 1) / 253, low = share < 1 ? 0 : 1, part = share - low;
      for (let colour = 0; colour < 3; colour++) {
        image.data[4 * at + colour] = code === 255 ? bad[colour] : stops[low][colour] + part * (stops[low + 1 > 2 ? 2 : low + 1][colour] - stops[low][colour]);
      }
      image.data[4 * at + 3] = 255;
    });
    const small = document.createElement("canvas");
    small.width = columns; small.height = rows;
    small.getContext("2d").putImageData(image, 0, 0);
    ink.imageSmoothingEnabled = false;
    ink.fillStyle = style.getPropertyValue("--sunken");
    ink.fillRect(left, top, across, rows * each);
    ink.drawImage(small, left, top, across, rows * each);
    ink.fillStyle = style.getPropertyValue("--muted");
    ink.textBaseline = "middle"; ink.textAlign = "right";
    const apart = Math.ceil(12 / each);
    for (let row = 0; row < rows; row += apart) {
      let name = map.rows[row];
      while (ink.measureText(name).width > left - 8) name = "…" + name.slice(name.startsWith("…") ? 2 : 1);
      ink.fillText(name, left - 7, top + (row + 0.5) * each);
    }
    ink.textBaseline = "top";
    const ticks = Math.max(2, Math.min(6, columns, Math.floor(across / 70)));
    for (let tick = 0; tick < ticks; tick++) {
      const column = Math.round(tick * (columns - 1) / (ticks - 1));
      ink.textAlign = tick === 0 ? "left" : tick === ticks - 1 ? "right" : "center";
      ink.fillText(Math.round(map.columns[column]).toLocaleString("en").replaceAll(",", "\u202f"), left + across * tick / (ticks - 1), top + rows * each + 5);
    }
    ink.textAlign = "center";
    ink.fillText(map.axis, left + across / 2, top + rows * each + 20);
    if (map.at) {
      const [row, column] = map.at;
      ink.strokeStyle = style.getPropertyValue("--ink"); ink.lineWidth = 1.5;
      ink.strokeRect(left + column * across / columns, top + row * each, Math.max(2, across / columns), each);
    }
  };
  const canvases = [...document.querySelectorAll("[data-map]")];
  const drawMaps = () => canvases.forEach(drawMap);
  for (const canvas of canvases) {
    const map = maps[canvas.dataset.map], readout = canvas.parentNode.querySelector(".readout"), calm = readout.textContent;
    const show = (row, column) => {
      const rows = map.rows.length, columns = map.columns.length;
      if (row === null) { map.at = null; readout.textContent = calm; drawMap(canvas); return; }
      map.at = [Math.max(0, Math.min(rows - 1, row)), Math.max(0, Math.min(columns - 1, column))];
      const code = map.codes[map.at[0] * columns + map.at[1]], share = (code - 1) / 253;
      const value = map.log ? map.low * (map.high / map.low) ** share : map.low + share * (map.high - map.low);
      const edge = code === 1 && map.log ? "at most " : code === 254 && map.log ? "at least " : map.log ? "about " : "";
      const said = code === 0 ? "not recorded" : code === 255 ? "not finite" : edge + say(value, map.shares);
      readout.textContent = `${map.rows[map.at[0]]}, ${map.axis === "Step" ? "step" : "second"} ${Math.round(map.columns[map.at[1]])}: ${said}`;
      drawMap(canvas);
    };
    canvas.addEventListener("pointermove", (event) => {
      const { left, top, across, each } = map.place;
      const column = Math.floor((event.offsetX - left) / across * map.columns.length), row = Math.floor((event.offsetY - top) / each);
      if (column >= 0 && column < map.columns.length && row >= 0 && row < map.rows.length) show(row, column); else show(null);
    });
    canvas.addEventListener("pointerleave", () => show(null));
    canvas.addEventListener("blur", () => show(null));
    canvas.addEventListener("keydown", (event) => {
      const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] || [0, 0];
      if (!down && !right) return;
      event.preventDefault();
      const [row, column] = map.at || [0, 0];
      show(row + down, column + right);
    });
  }
  drawMaps();
  window.addEventListener("resize", drawMaps);
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", drawMaps);

  // A box that scrolls must be reachable by keyboard; one that does not is no stop on the way.
  const boxes = [...document.querySelectorAll(".table:not(.tall), .command code")];
  const reach = () => boxes.forEach((box) => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0; else box.removeAttribute("tabindex");
  });
  reach();
  window.addEventListener("resize", reach);

  for (const log of document.querySelectorAll(".log")) log.scrollTop = log.scrollHeight;

  const valueOf = (row, column, kind) => {
    const cell = row.cells[column];
    return kind === "text" ? cell.textContent : Number(cell.dataset.value);
  };
  for (const button of document.querySelectorAll("[data-sort]")) {
    button.addEventListener("click", () => {
      const head = button.closest("th"), body = head.closest("table").tBodies[0], kind = button.dataset.sort;
      const up = head.getAttribute("aria-sort") !== "ascending";
      head.parentNode.querySelectorAll("th").forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const compare = kind === "text" ? (a, b) => a.localeCompare(b) : (a, b) => a - b;
      const rows = [...body.rows].map((row) => [valueOf(row, head.cellIndex, kind), row]);
      rows.sort((a, b) => (up ? 1 : -1) * compare(a[0], b[0]));
      body.append(...rows.map(([, row]) => row));
    });
  }

  for (const button of document.querySelectorAll(".copy")) {
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.previousElementSibling.textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }
})();
