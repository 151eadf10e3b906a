// What a page gains with a script: a filter, and numbers where the pointer or the arrow keys are.
// Everything that is shown stands in the page's tables already.
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // One note for the whole page, beside what it speaks of.
  const note = document.createElement("div");
  note.className = "note";
  note.setAttribute("role", "status");
  note.hidden = true;
  document.body.append(note);
  let [owner, following, where] = [null, null, ""];
  const seat = (of) => Object.values(of.getBoundingClientRect().toJSON()).join();
  const hide = (of = owner) => {
    if (of !== owner) return;
    note.hidden = true;
    [owner, following] = [null, null];
  };
  // With `follow` the note stays where its place goes when the page scrolls.
  const show = (of, text, place, follow) => {
    note.textContent = text;
    note.hidden = false;
    [owner, following, where] = [of, follow ? place : null, seat(of)];
    move(place);
  };
  const move = (place) => {
    const [x, y] = place();
    const { width, height } = note.getBoundingClientRect();
    const left = x + 14 + width > innerWidth ? x - 14 - width : x + 14;
    const top = y + 14 + height > innerHeight ? y - 14 - height : y + 14;
    note.style.left = `${Math.max(0, left)}px`;
    note.style.top = `${Math.max(0, top)}px`;
  };

  // Plots: the row of the table behind the plot that is nearest to the pointer.
  for (const figure of all("figure.plot")) {
    const svg = figure.querySelector("svg");
    const cursor = figure.querySelector(".cursor");
    const names = all("thead th", figure).map((cell) => cell.textContent);
    const rows = all("tbody tr", figure).map((row) => ({
      x: Number(row.dataset.x),
      text: [...row.cells].map((cell, at) => cell.textContent && `${names[at]}: ${cell.textContent}`)
        .filter(Boolean).join("\n"),
    }));
    if (rows.length === 0) continue;
    let current = -1;
    const point = (at, y) => {
      current = at;
      const row = rows[at];
      cursor.setAttribute("x1", row.x);
      cursor.setAttribute("x2", row.x);
      const place = () => {
        const box = svg.getBoundingClientRect();
        return [box.left + (row.x / svg.viewBox.baseVal.width) * box.width, y ?? box.top + box.height / 3];
      };
      show(svg, row.text, place, y === undefined);
    };
    const leave = () => {
      current = -1;
      cursor.setAttribute("x1", -9);
      cursor.setAttribute("x2", -9);
      hide(svg);
    };
    svg.addEventListener("pointermove", (event) => {
      // A page that scrolls under a resting pointer asks nothing.
      if (event.movementX === 0 && event.movementY === 0) return;
      const box = svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
      let nearest = 0;
      rows.forEach((row, at) => {
        if (Math.abs(row.x - x) < Math.abs(rows[nearest].x - x)) nearest = at;
      });
      point(nearest, event.clientY);
    });
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("blur", leave);
    svg.setAttribute("tabindex", "0");
    svg.addEventListener("keydown", (event) => {
      const last = rows.length - 1;
      const next = {
        ArrowRight: Math.min(current + 1, last),
        ArrowLeft: current < 0 ? last : Math.max(current - 1, 0),
        Home: 0,
        End: last,
      }[event.key];
      if (event.key === "Escape") leave();
      if (next === undefined) return;
      event.preventDefault();
      point(next);
    });
  }

  // Maps: from which node to which, and how much.
  for (const table of all("table.heat")) {
    const columns = all("thead tr:last-child th", table);
    const tell = (cell, follow) => {
      const before = [...cell.parentNode.cells];
      const row = before.filter((one) => one.scope === "row")[0];
      const first = before.findIndex((one) => one.tagName === "TD");
      const column = columns[before.indexOf(cell) - first];
      if (!row || !column || !cell.textContent) return hide(table);
      const place = () => {
        const box = cell.getBoundingClientRect();
        return [box.right, box.bottom];
      };
      show(table, `${row.textContent} → ${column.textContent}: ${cell.textContent}`, place, follow);
    };
    table.addEventListener("pointerover", (event) => {
      const cell = event.target.closest("tbody td");
      if (cell) tell(cell, false); else hide(table);
    });
    table.addEventListener("pointerleave", () => hide(table));
    for (const cell of all("tbody td", table)) cell.tabIndex = -1;
    table.addEventListener("focusin", (event) => event.target.tagName === "TD" && tell(event.target, true));
    table.addEventListener("focusout", () => hide(table));
    table.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return hide();
      const from = event.target.closest("td");
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!from || !step) return;
      const rows = all("tbody tr", table).map((row) => [...row.cells].filter((one) => one.tagName === "TD"));
      const at = rows.findIndex((row) => row.includes(from));
      const to = rows[at + step[0]]?.[rows[at].indexOf(from) + step[1]];
      if (to) { event.preventDefault(); to.focus(); }
    });
    const first = table.querySelector("tbody td");
    if (first) first.tabIndex = 0;
  }

  // The filter: every word must occur, and the state, where a thing has one, must be the chosen one.
  const form = document.getElementById("filter");
  const things = all("[data-words]");
  const apply = () => {
    const words = form.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const state = form.state.value;
    let shown = 0;
    for (const thing of things) {
      const text = thing.dataset.words.toLowerCase();
      const states = (thing.dataset.state ?? state).split(" ");
      const fits = words.every((word) => text.includes(word)) && (!state || states.includes(state));
      thing.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    // A heading without rows says nothing.
    for (const body of all("table.forest tbody")) {
      const rows = all("tr[data-words]", body);
      body.hidden = rows.length > 0 && rows.every((row) => row.hidden);
    }
    form.shown.value = words.length || state ? `${shown} of ${things.length} shown` : "";
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  // A link leads to its section, whatever the filter hides and however it is folded.
  const reveal = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    target.hidden = false;
    for (const details of all(":scope > details", target)) details.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  addEventListener("scroll", () => {
    if (following) move(following);
    else if (owner && seat(owner) !== where) hide();
  }, { passive: true, capture: true });
  reveal();
  apply();
})();
