"use strict";
(() => {
  const PAGE = 8;
  const FEW = 4;
  const data = JSON.parse(document.getElementById("sample").textContent);
  const root = document.getElementById("browser");
  if (!root) return;

  // Every text of the run enters the page here, as text.
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  const ANY = "any";
  const distinct = (pick) => [...new Set(data.prompts.flatMap(pick))];
  const filters = [
    {
      name: "Iteration",
      options: distinct((p) => [String(p.iteration)]),
      prompt: (p, value) => String(p.iteration) === value,
    },
    {
      name: "Category",
      options: distinct((p) => [p.category]).filter((category) => category),
      prompt: (p, value) => p.category === value,
    },
    {
      name: "Verdict",
      options: distinct((p) => p.responses.map((r) => r.verdict)),
      response: (r, value) => r.verdict === value,
    },
    {
      name: "Outcome",
      options: distinct((p) => p.responses.flatMap((r) => r.fates.map(([fate]) => fate))),
      response: (r, value) => r.fates.some(([fate]) => fate === value),
    },
  ];

  let limit = PAGE;
  const controls = make("div", "filters");
  const found = make("p", "found");
  const list = make("div");
  const more = make("button", "more", "Show more prompts");
  found.setAttribute("role", "status");

  for (const filter of filters) {
    filter.value = ANY;
    if (filter.options.length < 2) continue;
    const label = make("label", "", filter.name);
    const select = make("select");
    for (const option of [ANY, ...filter.options]) {
      const item = make("option", "", option);
      item.value = option === ANY ? ANY : "=" + option;
      select.append(item);
    }
    select.addEventListener("change", () => {
      filter.value = select.value;
      limit = PAGE;
      render();
    });
    label.append(select);
    controls.append(label);
  }
  controls.append(found);

  const active = (kind) => filters.filter((f) => f[kind] && f.value !== ANY);
  const passes = (kind, item) => active(kind).every((f) => f[kind](item, f.value.slice(1)));

  const picture = (uri) => {
    const image = data.images[uri];
    if (image.error) return make("p", "", "Picture not shown. " + image.error);
    const element = make("img", image.small ? "small" : "");
    element.src = image.source;
    element.alt = "Picture " + image.name;
    return element;
  };

  const step = ([text, score, level]) => {
    const row = make("div", score === null ? "step plain" : "step");
    if (score !== null) row.append(make("span", "chip s" + level, score.toFixed(2)));
    row.append(make("span", "", text));
    return row;
  };

  const measures = (r) => {
    const parts = [];
    if (r.reward !== null) parts.push("process reward " + r.reward.toFixed(2));
    if (r.logprob !== null) parts.push("log-prob " + r.logprob.toFixed(1));
    parts.push(r.tokens + " tokens" + (r.finished ? "" : ", cut off"));
    if (r.temperature !== null) parts.push("T " + r.temperature);
    if (r.chain !== null) parts.push(r.chain ? "chain right" : "chain wrong");
    return parts.join(" · ");
  };

  const response = (r) => {
    const card = make("article", r.kept ? "response kept" : "response");
    const head = make("p", "verdict");
    head.append(make("b", r.correct ? "right" : "", (r.correct ? "✓ " : "✗ ") + r.verdict));
    if (r.predicted !== null && !r.correct) head.append(make("span", "", "said " + r.predicted));
    for (const [fate, count] of r.fates) {
      if (fate === r.verdict + " answer" || fate === r.verdict) {
        if (count > 1) head.append(make("span", "tag", "×" + count));
        continue;
      }
      head.append(make("span", fate === "kept" ? "tag kept" : "tag", count > 1 ? fate + " ×" + count : fate));
    }
    card.append(head, ...r.steps.map(step), make("p", "measures", measures(r)));
    return card;
  };

  const prompt = (p) => {
    const row = make("article", "prompt");
    const pictures = make("div", "pictures");
    pictures.append(...p.images.map(picture));
    if (!p.images.length) pictures.append(make("p", "", "No picture."));
    const body = make("div");
    const facts = make("p", "facts", p.answer === null ? "gold answer hidden" : "gold answer ");
    if (p.answer !== null) facts.append(make("b", "", p.answer));
    const about = ["iteration " + p.iteration, p.category, p.id, p.samples + " samples"];
    facts.append(" · " + about.filter((part) => part).join(" · "));
    const matching = p.responses.filter((r) => passes("response", r));
    const cards = make("div", "responses");
    cards.append(...matching.slice(0, FEW).map(response));
    body.append(make("p", "question", p.question), facts, cards);
    if (matching.length > FEW) {
      const rest = make("button", "more", "Show all " + matching.length + " responses");
      rest.addEventListener("click", () => {
        cards.append(...matching.slice(FEW).map(response));
        rest.remove();
      });
      body.append(rest);
    }
    row.append(pictures, body);
    return row;
  };

  const render = () => {
    const shown = data.prompts.filter((p) => passes("prompt", p) && p.responses.some((r) => passes("response", r)));
    found.textContent = shown.length === 1 ? "1 prompt" : shown.length + " prompts";
    list.replaceChildren(...shown.slice(0, limit).map(prompt));
    more.hidden = shown.length <= limit;
  };
  more.addEventListener("click", () => {
    limit += PAGE;
    render();
  });

  root.append(controls);
  if (data.prompts.some((p) => p.responses.some((r) => r.steps.some((s) => s[1] !== null)))) {
    const key = make("p", "key", "Step score");
    ["0–0.2", "0.2–0.4", "0.4–0.6", "0.6–0.8", "0.8–1"].forEach((text, level) => {
      key.append(make("span", "chip s" + level, text));
    });
    root.append(key);
  }
  root.append(list, more);
  render();
})();
