"use strict";

// The list of images: filtered, sorted, and drawn as far as the reader has scrolled.
(function () {
  const STEP = 24;
  const data = JSON.parse(document.getElementById("gallery-data").textContent);
  const section = document.getElementById("images"), part = (name) => section.querySelector(name);
  const list = part(".prompts"), more = part(".more"), { words, category, order, scorer, variant } = part(".tools").elements;
  const others = data.variants.map((_, at) => at).filter((at) => at !== data.reference);
  let chosen = [], sequence = [], drawn = 0;
  const viewer = makeViewer(data, () => sequence, linkOf);

  function fill(select, options) {
    select.append(...options.map(([value, name]) => make("option", { value }, name)));
    select.closest("label").hidden = options.length < 2;
  }

  function fillTools() {
    const categories = [...new Set(data.prompts.map((prompt) => prompt.category))];
    const reference = data.variants[data.reference][0];
    fill(category, [...(categories.length > 1 ? [["", "all"]] : []), ...categories.map((name) => [name, name || "none"])]);
    fill(scorer, data.scorers.map((name, at) => [at, name]));
    fill(variant, (others.length ? others : [data.reference]).map((at) => [at, data.variants[at][0]]));
    const wins = [["wins-high", `win rate against ${reference}, highest first`], ["wins-low", `win rate against ${reference}, lowest first`]];
    const scores = [["score-high", "score, highest first"], ["score-low", "score, lowest first"]];
    fill(order, [...(others.length ? wins : []), ["given", "as in the benchmark"], ...scores]);
    list.style.setProperty("--columns", Math.min(data.variants.length, 6));
  }

  // Win rates are an order where the chosen scorer has some: of diversity, neither high nor low is better.
  function offerOrders() {
    const has = data.prompts.some((prompt) => prompt.wins[scorer.value]?.some(Boolean));
    for (const one of order.options) if (one.value.startsWith("wins")) one.hidden = one.disabled = !has;
    if (order.selectedOptions[0]?.disabled) order.value = "given";
  }

  const winsOf = (prompt) => prompt.wins[scorer.value]?.[variant.value] || null;

  // Mean over the images that are shown, or null.
  function scoreOf(prompt) {
    const values = prompt.rows.map(([, images]) => images[variant.value].scores?.find(([of]) => String(of) === scorer.value)?.[1]);
    const known = values.filter((value) => typeof value === "number");
    return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
  }

  // Prompts that pass the filters, in the chosen order; those without a value stand last.
  function choose() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (prompt) => (!category.value || prompt.category === category.value) && wanted.every((word) => prompt.text.toLowerCase().includes(word));
    chosen = data.prompts.map((_, at) => at).filter((at) => fits(data.prompts[at]));
    const [what, way] = order.value.split("-"), sign = way === "low" ? 1 : -1;
    if (what !== "given") {
      const keys = new Map(chosen.map((at) => {
        const prompt = data.prompts[at], score = what === "score" ? scoreOf(prompt) : null;
        return [at, what === "wins" ? winsOf(prompt) : score === null ? null : [score]];
      }));
      const compare = (a, b) => a.slice(0, 2).reduce((found, value, at) => found || sign * (value - b[at]), 0);
      chosen.sort((one, other) => {
        const a = keys.get(one), b = keys.get(other);
        return a && b ? compare(a, b) || one - other : (a ? 0 : 1) - (b ? 0 : 1) || one - other;
      });
    }
    sequence = chosen.flatMap((at) => data.prompts[at].rows.flatMap(([, images], row) =>
      images.flatMap((image, column) => (image.file ? [[at, row, column]] : []))));
  }

  function figure(at, row, column) {
    const prompt = data.prompts[at], [seed, images] = prompt.rows[row], image = images[column], [name, note] = data.variants[column];
    const shown = make("figure", {}, make("figcaption", {}, name, note ? make("small", {}, ` ${note}`) : ""));
    if (image.file) {
      const img = make("img", { src: `${data.folder}/${image.file}`, width: image.width, height: image.height, loading: "lazy", decoding: "async", alt: `${name}: ${prompt.text}, seed ${seed}` });
      if (isPixelated(image)) img.className = "pixelated";
      shown.append(make("a", { class: "open", id: `at-${at}-${row}-${column}`, href: viewer.hashOf([at, row, column]) }, img));
    } else shown.append(make("div", { class: "missing" }, image.missing));
    const scores = (image.scores || []).map(([of, value]) => {
      const words = [data.scorers[of], " ", make("b", {}, digits(value))];
      return make("li", {}, image.file ? make("a", { href: viewer.hashOf([at, row, column], of) }, ...words) : make("span", {}, ...words));
    });
    if (image.failed) scores.unshift(make("li", { class: "why", title: image.failed }, "could not be scored"));
    if (scores.length) shown.append(make("ul", { class: "scored" }, ...scores));
    return shown;
  }

  function card(at) {
    const prompt = data.prompts[at], wins = winsOf(prompt), several = prompt.rows.length > 1;
    const meta = make("p", { class: "meta" }, [prompt.id, prompt.subset, several ? "" : `seed ${prompt.rows[0][0]}`].filter(Boolean).join(" · "));
    const whose = others.length > 1 ? ` of ${data.variants[variant.value][0]}` : "";
    if (wins) meta.append(` · win rate${whose} `, make("b", {}, `${Math.round(1000 * wins[0]) / 10} %`), ` of ${wins[2]} ${wins[2] === 1 ? "pair" : "pairs"}`);
    const rows = prompt.rows.flatMap(([seed, images], row) => [
      several ? make("p", { class: "seed" }, `seed ${seed}`) : "",
      make("div", { class: "figures" }, ...images.map((_, column) => figure(at, row, column))),
    ]);
    return make("li", { "data-prompt": at }, make("h3", {}, prompt.text), meta, ...rows);
  }

  function draw(count) {
    list.append(...chosen.slice(drawn, drawn + count).map(card));
    drawn = Math.min(chosen.length, drawn + count);
    const left = chosen.length - drawn;
    more.hidden = !left;
    more.textContent = `Show ${Math.min(STEP, left)} more of ${left} prompts`;
  }

  function redraw() {
    choose();
    list.replaceChildren();
    drawn = 0;
    draw(STEP);
    const by = order.value === "given" ? [] : [data.scorers[scorer.value], ...(others.length > 1 ? [data.variants[variant.value][0]] : [])];
    const text = [...by, order.selectedOptions[0].textContent].join(", ");
    part(".status").textContent = `${chosen.length} of ${data.prompts.length} prompts, ${sequence.length} images. Order: ${text}.`;
  }

  // The link of an image in the list, which is drawn as far as that.
  function linkOf([at, row, column]) {
    const place = chosen.indexOf(at);
    if (place >= drawn) draw(place + 1 - drawn);
    return document.getElementById(`at-${at}-${row}-${column}`);
  }

  fillTools();
  offerOrders();
  redraw();
  words.addEventListener("input", redraw);
  scorer.addEventListener("change", offerOrders); // before the list is drawn again
  for (const select of [category, order, scorer, variant]) select.addEventListener("change", redraw);
  part(".tools").addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => {
    const first = drawn;
    draw(STEP);
    list.children[first]?.querySelector("a")?.focus();
  });
  const watch = new IntersectionObserver((seen) => {
    if (!seen[0].isIntersecting || document.activeElement === more) return;
    draw(STEP);
    watch.unobserve(more); // it tells changes alone, and more may be as near as before
    watch.observe(more);
  }, { rootMargin: "600px" });
  watch.observe(more);
  viewer.follow();
})();
