
function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/* Each kind of test: what is shown, which keys work, what is missing. `answer` is what is kept. */
const mushra = {
  missing: (answer) => {
    const index = answer.order.findIndex((id) => !(id in answer.ratings) || !answer.heard.includes(id));
    if (index < 0) return "";
    return answer.order[index] in answer.ratings ? `Hear version ${index + 1} first.` : `Version ${index + 1} has no rating yet.`;
  },
  build(answer, place) {
    const words = ["Bad", "Poor", "Fair", "Good", "Excellent"].map((word) => make("span", { textContent: word }));
    place.append(soundButton("reference", "Reference", "R", "reference"));
    place.append(make("div", { className: "row" }, make("span"), make("div", { className: "scale" }, ...words)));
    answer.order.forEach((id, index) => {
      const slider = make("input", { type: "range", min: 0, max: 100, value: answer.ratings[id] ?? 50 });
      slider.setAttribute("aria-label", `Rating of version ${index + 1}`);
      slider.oninput = () => this.rate(answer, id, Number(slider.value));
      slider.onfocus = () => { if (player.selected !== id) hear(id); };
      const row = make("div", { className: "row" }, soundButton(id, `${index + 1}`), slider, make("output"));
      row.dataset.row = id;
      place.append(row);
    });
  },
  refresh(answer) {
    for (const row of document.querySelectorAll("[data-row]")) {
      const rating = answer.ratings[row.dataset.row];
      row.classList.toggle("unrated", rating === undefined);
      row.classList.toggle("selected", row.dataset.row === player.selected);
      row.querySelector("input").value = rating ?? 50;
      row.querySelector("output").textContent = rating ?? "–";
    }
  },
  rate(answer, id, value) {
    answer.ratings[id] = Math.min(100, Math.max(0, value));
    changed();
  },
  focus(id) { document.querySelector(`[data-row="${id}"] input`)?.focus(); },
  key(answer, key) {
    const index = answer.order.indexOf(player.selected);
    const go = (to) => { const id = answer.order[to]; if (id) { hear(id); this.focus(id); } return true; };
    if (/^[1-9]$/.test(key)) return go(Number(key) - 1);
    if (key === "ArrowDown") return go(index + 1);
    if (key === "ArrowUp") return go(index - 1);
    const steps = { ArrowRight: 1, ArrowLeft: -1, PageUp: 10, PageDown: -10, Home: -100, End: 100 };
    if (!(key in steps)) return false;
    if (index >= 0) this.rate(answer, player.selected, (answer.ratings[player.selected] ?? 50) + steps[key]);
    return true;
  },
};

const ab = {
  words: ["A is better", "No difference", "B is better"],
  missing: (answer) => {
    const unheard = answer.order.findIndex((id) => !answer.heard.includes(id));
    return unheard >= 0 ? `Hear ${"AB"[unheard]} first.` : answer.choice ? "" : "Say which you prefer.";
  },
  build(answer, place) {
    const [a, b] = answer.order;
    const verdicts = [a, "none", b].map((choice, index) => {
      const button = make("button", { textContent: `${this.words[index]} ` }, make("kbd", { textContent: "←↓→"[index] }));
      button.dataset.choice = choice;
      button.onclick = () => this.choose(answer, choice);
      return button;
    });
    place.append(
      soundButton("reference", "Reference", "R", "reference"),
      make("div", { className: "pair" }, soundButton(a, "A"), soundButton(b, "B")),
      make("div", { className: "verdicts" }, ...verdicts),
    );
  },
  refresh(answer) {
    for (const button of document.querySelectorAll("[data-choice]"))
      button.setAttribute("aria-pressed", button.dataset.choice === answer.choice);
  },
  choose(answer, choice) { answer.choice = choice; changed(); },
  key(answer, key) {
    const sound = { a: 0, b: 1, 1: 0, 2: 1 }[key.toLowerCase()];
    if (sound !== undefined) { hear(answer.order[sound]); return true; }
    const choice = { ArrowLeft: answer.order[0], ArrowDown: "none", ArrowRight: answer.order[1] }[key];
    if (choice) this.choose(answer, choice);
    return Boolean(choice);
  },
};

const p835 = {
  scales: {
    signal: ["The voice alone is", "very distorted", "fairly distorted", "somewhat distorted", "slightly distorted", "not distorted"],
    background: ["The background alone is", "very intrusive", "somewhat intrusive", "noticeable, not intrusive", "slightly noticeable", "not noticeable"],
    overall: ["The whole is", "bad", "poor", "fair", "good", "excellent"],
  },
  missing: (answer) => {
    if (!answer.heard.length) return "Hear the sound first.";
    return answer.scales.some((scale) => !answer.ratings[scale]) ? "A question has no answer yet." : "";
  },
  build(answer, place) {
    answer.active ??= 0;
    answer.scales.forEach((scale, index) => {
      const [title, ...words] = this.scales[scale];
      const buttons = words.map((word, at) => {
        const button = make("button", {}, make("b", { textContent: at + 1 }), word);
        button.onclick = () => { answer.active = index; this.answer(answer, at + 1); };
        return button;
      });
      const field = make("fieldset", {}, make("legend", { textContent: title }), make("div", { className: "five" }, ...buttons));
      field.dataset.scale = scale;
      place.append(field);
    });
  },
  refresh(answer) {
    document.querySelectorAll("[data-scale]").forEach((field, index) => {
      field.classList.toggle("active", index === answer.active);
      field.querySelectorAll("button").forEach((button, at) =>
        button.setAttribute("aria-pressed", answer.ratings[field.dataset.scale] === at + 1));
    });
  },
  answer(answer, value) {
    answer.ratings[answer.scales[answer.active]] = value;
    const open = answer.scales.findIndex((scale) => !answer.ratings[scale]);
    if (open >= 0) { answer.active = open; player.playing && player.start(0); }
    changed();
  },
  key(answer, key) {
    if (/^[1-5]$/.test(key)) { this.answer(answer, Number(key)); return true; }
    const step = { ArrowDown: 1, ArrowUp: -1 }[key];
    if (step) { answer.active = Math.min(2, Math.max(0, answer.active + step)); changed(); }
    return Boolean(step);
  },
};
