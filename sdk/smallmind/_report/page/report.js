"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const WIDTH = 1000, HEIGHT = 130;
  const data = JSON.parse(document.getElementById("data").textContent);
  const first = Number(document.body.dataset.first);
  const strip = document.getElementById("strip");
  const picker = document.getElementById("picker");
  document.documentElement.classList.add("interactive");

  const text = (seconds) => {
    if (seconds >= 0.9995) return `${three(seconds)} s`;
    if (seconds >= 0.0009995) return `${three(seconds * 1e3)} ms`;
    return `${Math.round(seconds * 1e6)} µs`;
  };
  const three = (n) => (n < 999.5 ? n.toPrecision(3).replace(/\.$/, "") : Math.round(n).toLocaleString("en-US"));

  const rect = (x, y, width, height, kind, title) => {
    const box = document.createElementNS(SVG, "rect");
    for (const [name, value] of Object.entries({ x, y, width, height })) box.setAttribute(name, value.toFixed(2));
    box.setAttribute("class", kind);
    const told = document.createElementNS(SVG, "title");
    told.textContent = title;
    box.append(told);
    return box;
  };

  const drawStrip = (request) => {
    strip.replaceChildren();
    const tokens = request.engine || [];
    const sums = tokens.map((engine, n) => Math.max(0, engine) + Math.max(0, request.reader[n]));
    const most = (sums.length > 1 ? sums.slice(1) : sums).reduce((a, b) => Math.max(a, b), 0);
    const scale = HEIGHT / (most || 1);
    const step = WIDTH / Math.max(tokens.length, 1);
    tokens.forEach((engine, n) => {
      const reader = request.reader[n];
      const title = `token ${n}: engine ${text(engine)}, reader ${text(reader)}`;
      const width = Math.max(step * 0.85, 0.5);
      const low = Math.min(Math.max(0, engine) * scale, HEIGHT);
      const high = Math.min(Math.max(0, reader) * scale, HEIGHT - low);
      strip.append(rect(n * step, HEIGHT - low, width, low, n ? "decode" : "prefill", title));
      if (high > 0) strip.append(rect(n * step, HEIGHT - low - high, width, high, "consumer", title));
    });
    document.getElementById("strip-most").textContent = tokens.length ? text(most) : "";
  };

  const drawLedger = (request) => {
    const legend = document.getElementById("strip-ledger");
    legend.replaceChildren();
    for (const [phase, seconds] of request.ledger) {
      if (!seconds) continue;
      const entry = document.createElement("span"), colour = document.createElement("i"), figure = document.createElement("b");
      colour.className = phase;
      figure.textContent = text(seconds);
      entry.append(colour, `${phase} `, figure);
      legend.append(entry);
    }
  };

  const choose = (index, scroll) => {
    const request = data[index - first];
    if (!request) return;
    drawStrip(request);
    drawLedger(request);
    const told = request.engine === null ? "its tokens are left out of this page" : `${request.engine.length} tokens`;
    document.getElementById("strip-name").textContent =
      `${request.id}: ${request.status}${request.reason ? ` (${request.reason})` : ""}, ${text(request.duration)}, ${told}`;
    for (const each of document.querySelectorAll(".chosen")) each.classList.remove("chosen");
    for (const each of document.querySelectorAll(`[data-request="${index}"]`)) each.classList.add("chosen");
    picker.value = String(index);
    if (scroll) document.getElementById("tokens").scrollIntoView({ behavior: "smooth", block: "center" });
  };

  data.forEach((request, n) => {
    const option = document.createElement("option");
    option.value = String(first + n);
    option.textContent = `${request.id} · ${request.status} · ${text(request.duration)}`;
    picker.append(option);
  });
  picker.addEventListener("change", () => choose(Number(picker.value), false));
  for (const each of document.querySelectorAll("[data-request]")) {
    each.addEventListener("click", () => choose(Number(each.dataset.request), true));
  }
  if (document.body.dataset.chosen) choose(Number(document.body.dataset.chosen), false);

  const table = document.getElementById("requests");
  if (!table) return;
  const body = table.tBodies[0];
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value || "-1");
  };
  for (const head of table.tHead.querySelectorAll("th[data-sort]")) {
    head.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "descending";
      for (const each of table.tHead.querySelectorAll("th")) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "ascending" : "descending");
      const sign = down ? 1 : -1, column = head.cellIndex;
      const rows = [...body.rows].sort((a, b) => {
        const one = keyOf(a, column), two = keyOf(b, column);
        return sign * (typeof one === "number" ? one - two : one.localeCompare(two));
      });
      body.append(...rows);
    });
  }
  document.getElementById("filter").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
})();
