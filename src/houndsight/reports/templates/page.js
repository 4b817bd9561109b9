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
