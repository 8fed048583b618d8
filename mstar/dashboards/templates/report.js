"use strict";
(() => {
  const PAGE = 8;
  const FEW = 4;
  const ANY = "any";
  const NOT_SAID = "The question and its pictures do not stand in these files.";

  // Every text of the run enters the page here or in `marked`, as text.
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  // One dialog shows any picture as large as the window; a click on it enlarges the place that was clicked.
  const dialog = make("dialog", "zoom");
  const large = make("img");
  let factor = 1;
  const enlarge = (to, x = 0.5, y = 0.5) => {
    factor = to;
    const fit = Math.min((innerWidth * 0.94) / large.naturalWidth, (innerHeight * 0.86) / large.naturalHeight);
    large.style.width = large.naturalWidth * fit * factor + "px";
    dialog.scrollTo(x * large.clientWidth - dialog.clientWidth / 2, y * large.clientHeight - dialog.clientHeight / 2);
  };
  const close = make("button", "", "Close");
  close.addEventListener("click", () => dialog.close());
  dialog.append(close, large);
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  large.addEventListener("click", (event) => {
    const box = large.getBoundingClientRect();
    enlarge(factor < 8 ? factor * 2 : 1, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "+") enlarge(Math.min(factor * 2, 16));
    if (event.key === "-") enlarge(Math.max(factor / 2, 1));
  });
  document.body.append(dialog);

  const browse = (root) => {
    const data = JSON.parse(document.getElementById(root.dataset.sample).textContent);
    for (const p of data.prompts) {
      p.text = [p.question, p.answer || "", p.category, p.id].join("\n").toLowerCase();
      for (const r of p.responses) r.text = r.steps.map((s) => s[0]).join("\n").toLowerCase();
    }
    // One prompt has a row for every iteration that it is shown in.
    const prompts = new Map();
    for (const p of data.prompts) prompts.set(p.id, [...(prompts.get(p.id) || []), p]);

    const distinct = (pick) => [...new Set(data.prompts.flatMap(pick))];
    const filters = [
      {
        name: "Iteration",
        options: distinct((p) => (p.iteration === null ? [] : [String(p.iteration)])),
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
    let wanted = "";
    const controls = make("div", "filters");
    const found = make("p", "found");
    const list = make("div");
    const more = make("button", "more", "Show more prompts");
    found.setAttribute("role", "status");

    const change = () => {
      limit = PAGE;
      render();
    };
    const labelled = (name, control) => {
      const label = make("label", "", name);
      label.append(control);
      controls.append(label);
    };
    const search = make("input");
    search.type = "search";
    search.addEventListener("input", () => {
      wanted = search.value.trim().toLowerCase();
      change();
    });
    labelled("Text", search);
    for (const filter of filters) {
      filter.value = ANY;
      if (filter.options.length < 2) continue;
      const select = make("select");
      for (const option of [ANY, ...filter.options]) {
        const item = make("option", "", option);
        item.value = option === ANY ? ANY : "=" + option;
        select.append(item);
      }
      select.addEventListener("change", () => {
        filter.value = select.value;
        change();
      });
      labelled(filter.name, select);
    }
    controls.append(found);

    const active = (kind) => filters.filter((f) => f[kind] && f.value !== ANY);
    const passes = (kind, item) => active(kind).every((f) => f[kind](item, f.value.slice(1)));
    // A text that stands in the prompt is found with all its responses.
    const matching = (p) =>
      p.responses.filter((r) => passes("response", r) && (p.text.includes(wanted) || r.text.includes(wanted)));

    const marked = (tag, className, text) => {
      const element = make(tag, className);
      const low = text.toLowerCase();
      let from = 0;
      for (let at; wanted && (at = low.indexOf(wanted, from)) >= 0; from = at + wanted.length) {
        element.append(text.slice(from, at), make("mark", "", text.slice(at, at + wanted.length)));
      }
      element.append(text.slice(from));
      return element;
    };

    const picture = (place) => {
      const image = data.images[place];
      if (image.error) return make("p", "", "Picture not shown. " + image.error);
      const button = make("button", "picture");
      const element = make("img", image.small ? "small" : "");
      element.src = image.source;
      element.alt = "Picture " + image.name;
      button.title = "Enlarge";
      button.append(element);
      button.addEventListener("click", () => {
        large.src = image.source;
        large.alt = element.alt;
        large.className = element.className;
        dialog.showModal();
        large.decode().then(() => enlarge(1));
      });
      return button;
    };

    const step = ([text, score, level]) => {
      const row = make("div", score === null ? "step plain" : "step");
      if (score !== null) row.append(make("span", "chip s" + level, score.toFixed(2)));
      row.append(marked("span", "", text));
      return row;
    };

    const measures = (r) => {
      const parts = [];
      if (r.reward !== null) parts.push("process reward " + r.reward.toFixed(2));
      if (r.logprob !== null) parts.push("log-prob " + r.logprob.toFixed(1));
      if (r.tokens !== null) parts.push(r.tokens + " tokens");
      if (!r.finished) parts.push("cut off");
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

    // What is said of a prompt in one iteration, and its responses there.
    const inIteration = (p) => {
      const facts = make("p", "facts");
      const kind = p.voted ? "voted answer " : "gold answer ";
      if (p.question) facts.append(p.answer === null ? "gold answer hidden" : kind);
      if (p.answer !== null) facts.append(marked("b", "", p.answer));
      const iteration = p.iteration === null ? "" : "iteration " + p.iteration;
      const about = [iteration, p.category, p.id, p.samples + (p.iteration === null ? " responses" : " samples")];
      facts.append(marked("span", "", (p.question ? " · " : "") + about.filter((part) => part).join(" · ")));
      const found = matching(p);
      const cards = make("div", "responses");
      cards.append(...found.slice(0, FEW).map(response));
      if (found.length <= FEW) return [facts, cards];
      const rest = make("button", "more", "Show all " + found.length + " responses");
      rest.addEventListener("click", () => {
        cards.append(...found.slice(FEW).map(response));
        rest.remove();
      });
      return [facts, cards, rest];
    };

    const share = (p) => {
      const right = p.responses.reduce((sum, r) => sum + (r.correct ? r.count : 0), 0);
      return p.iteration + ": " + right + "/" + p.samples;
    };

    // The newest of the iterations that pass the filters is shown first; the others are a click away.
    const prompt = ([rows, shown]) => {
      const row = make("article", "prompt");
      const pictures = make("div", "pictures");
      pictures.append(...rows[0].images.map(picture));
      if (!rows[0].images.length) pictures.append(make("p", "", rows[0].question ? "No picture." : NOT_SAID));
      const body = make("div");
      const content = make("div");
      body.append(marked("p", "question", rows[0].question || rows[0].id));
      const show = (p, buttons) => {
        content.replaceChildren(...inIteration(p));
        for (const [other, button] of buttons) button.setAttribute("aria-pressed", String(other === p));
      };
      const buttons = new Map();
      if (rows.length > 1) {
        const strip = make("div", "iterations");
        strip.setAttribute("role", "group");
        strip.setAttribute("aria-label", "Right responses by iteration");
        strip.append(make("span", "", "Right by iteration"));
        for (const p of rows) {
          const button = make("button", "", share(p));
          button.disabled = !shown.includes(p);
          button.addEventListener("click", () => show(p, buttons));
          buttons.set(p, button);
          strip.append(button);
        }
        body.append(strip);
      }
      show(shown[shown.length - 1], buttons);
      body.append(content);
      row.append(pictures, body);
      return row;
    };

    const render = () => {
      const shown = [...prompts.values()]
        .map((rows) => [rows, rows.filter((p) => passes("prompt", p) && matching(p).length)])
        .filter(([, passing]) => passing.length);
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
      const key = make("p", "key", data.legend);
      ["0–0.2", "0.2–0.4", "0.4–0.6", "0.6–0.8", "0.8–1"].forEach((text, level) => {
        key.append(make("span", "chip s" + level, text));
      });
      root.append(key);
    }
    root.append(list, more);
    render();
  };

  document.querySelectorAll(".browser").forEach(browse);
})();
