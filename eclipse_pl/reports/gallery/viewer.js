"use strict";

// An element with attributes and children. Texts become text nodes, so that nothing in a prompt is markup.
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

// A value in three digits; a dash for what could not be scored.
function digits(value) {
  if (value === null) return "–";
  const short = Math.abs(value) >= 1000 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
  return short.replace("-", "−");
}

// Images smaller than this are enlarged with their pixels as they are.
const SMALL = 256;
const isPixelated = (image) => Math.max(image.width, image.height) < SMALL / 2;

// The dialog that shows one image at its real size, with the evidence of a score.
// `sequence()` gives the images that arrows move through, as [prompt, row, variant], and `linkOf` the link of one in the list.
function makeViewer(data, sequence, linkOf) {
  const dialog = document.getElementById("viewer");
  const part = (name) => dialog.querySelector(name);
  const stage = part(".stage"), picture = part(".picture"), overlay = part(".overlay"), drawn = part(".drawn input");
  const SIZES = [["fit", "fit"], [1, "real size"], [2, "2 ×"], [4, "4 ×"], [8, "8 ×"]];
  let shown = null, opened = "", scorer = 0, size = null;

  const hashOf = (place, ofScorer) => "#image-" + place.concat(ofScorer === undefined ? [] : [ofScorer]).join("-");

  function imageAt([prompt, row, variant]) {
    const found = data.prompts[prompt]?.rows[row]?.[1][variant];
    return found && found.file ? found : null;
  }

  // What the address asks for, or null.
  function asked() {
    const match = /^#image-(\d+)-(\d+)-(\d+)(?:-(\d+))?$/.exec(location.hash);
    if (!match) return null;
    const place = match.slice(1, 4).map(Number);
    return imageAt(place) && { place, scorer: match[4] === undefined ? null : Number(match[4]) };
  }

  // Small images are enlarged by a whole factor, and large ones have their real size.
  const usual = (image) => [8, 4, 2].find((factor) => factor * Math.max(image.width, image.height) <= SMALL) || 1;

  function scaleOf(image) {
    const chosen = size === null ? usual(image) : size;
    if (chosen !== "fit") return chosen;
    return Math.min((stage.clientWidth - 32) / image.width, (stage.clientHeight - 32) / image.height);
  }

  function showSize() {
    const image = imageAt(shown), scale = scaleOf(image);
    picture.style.width = image.width * scale + "px";
    picture.style.height = image.height * scale + "px";
    const chosen = size === null ? usual(image) : size;
    part(".sizes").replaceChildren(...SIZES.map(([value, words]) => {
      const button = make("button", { type: "button", "aria-pressed": String(value === chosen), "data-size": value }, words);
      button.addEventListener("click", () => { size = value; showSize(); part(`[data-size="${value}"]`).focus(); });
      return button;
    }));
    const times = scale === 1 ? "real size" : scale > 1 ? `enlarged ${digits(scale)} times` : `${Math.round(100 * scale)} % of its size`;
    part(".pixels").textContent = `${image.width} × ${image.height} pixels, ${times}`;
    drawBoxes();
  }

  const scoreOf = (image) => image.scores.find(([of]) => of === scorer) || image.scores[0];

  function drawBoxes() {
    const image = imageAt(shown), score = scoreOf(image), evidence = score ? score[2] : {};
    const boxes = drawn.checked ? evidence.boxes || [] : [], [width, height] = evidence.size || [image.width, image.height];
    const svg = (tag, attributes, text) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      if (text) element.textContent = text;
      return element;
    };
    overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
    overlay.setAttribute("aria-label", `${boxes.length} boxes`);
    overlay.toggleAttribute("hidden", !boxes.length);
    // texts are as large as the page's, whatever the size of the image; small images have room for numbers alone
    const wide = image.width * scaleOf(image), letters = (13 * width) / wide;
    const inFull = boxes.length <= 12 && wide >= SMALL;
    overlay.replaceChildren(...boxes.map(([label, , left, top, right, bottom], number) => {
      const group = svg("g", { class: `k${number % 7}` });
      const corners = { x: left, y: top, width: Math.max(0, right - left), height: Math.max(0, bottom - top) };
      const toLeft = left > width / 2;
      const place = { x: toLeft ? Math.min(right, width) : Math.max(left, 0), "text-anchor": toLeft ? "end" : "start", "stroke-width": letters / 4 };
      const text = svg("text", { ...place, y: top > letters * 1.4 ? top - letters * 0.35 : top + letters * 1.1 }, inFull ? `${number + 1} ${label}` : String(number + 1));
      text.style.fontSize = `${letters}px`;
      group.append(svg("rect", { ...corners, class: "halo" }), svg("rect", { ...corners, class: "box" }), text);
      return group;
    }));
  }

  function boxList(boxes) {
    return make("ol", { class: "boxes" }, ...boxes.map(([label, confidence], number) => {
      const count = make("span", { class: `number k${number % 7}` }, make("span", {}, String(number + 1)));
      const button = make("button", { type: "button" }, count, label, make("span", { class: "value" }, digits(confidence)));
      const mark = (on) => () => {
        overlay.classList.toggle("one", on);
        overlay.children[number]?.classList.toggle("strong", on);
      };
      for (const [event, on] of [["mouseenter", true], ["focus", true], ["mouseleave", false], ["blur", false]]) button.addEventListener(event, mark(on));
      return make("li", {}, button);
    }));
  }

  function questionList(questions) {
    return make("ol", { class: "questions" }, ...questions.map(([question, answer, probability, more]) =>
      make("li", {}, question, make("div", { class: "answer" }, make("span", {}, make("b", {}, answer), more ? ` (${more})` : ""),
        probability === null ? "" : make("span", {}, `probability ${digits(probability)}`)))));
  }

  function showEvidence() {
    const image = imageAt(shown), score = scoreOf(image);
    part(".scorers").replaceChildren(...image.scores.map(([of, value]) => {
      const button = make("button", { type: "button", "aria-pressed": String(score[0] === of) }, data.scorers[of], make("b", {}, digits(value)));
      button.addEventListener("click", () => { go(shown, of); part('.scorers [aria-pressed="true"]').focus(); });
      return make("li", {}, button);
    }));
    const evidence = score ? score[2] : {}, found = [];
    if (image.failed) found.push(make("p", {}, `Could not be scored: ${image.failed}`));
    if (evidence.boxes) found.push(boxList(evidence.boxes));
    if (evidence.questions) found.push(questionList(evidence.questions));
    if (evidence.facts) found.push(make("dl", {}, ...evidence.facts.flatMap(([name, words]) => [make("dt", {}, name), make("dd", {}, words)])));
    if (score && !found.length) found.push(make("p", { class: "note" }, "This scorer writes a value alone."));
    part(".evidence-title").textContent = score ? `Evidence of ${data.scorers[score[0]]}` : "No scorer scores this image";
    part(".drawn").hidden = !evidence.boxes;
    part(".evidence").replaceChildren(...found);
  }

  function show({ place, scorer: wanted }) {
    shown = place;
    if (wanted !== null) scorer = wanted;
    const [prompt, row, variant] = place, image = imageAt(place), of = data.prompts[prompt];
    const order = sequence(), at = order.findIndex((one) => one.join() === place.join());
    part("#viewer-title").textContent = of.text;
    part("#viewer-where").textContent = `${data.variants[variant][0]} · seed ${of.rows[row][0]} · ${of.id}`;
    part(".place").textContent = at < 0 ? "" : `${at + 1} of ${order.length}`;
    part(".previous").disabled = at <= 0;
    part(".next").disabled = at < 0 || at === order.length - 1;
    const img = part(".picture img");
    img.src = `${data.folder}/${image.file}`;
    img.alt = `${data.variants[variant][0]}: ${of.text}`;
    img.classList.toggle("pixelated", isPixelated(image));
    if (!dialog.open) {
      opened = place.join();
      dialog.showModal();
    }
    showEvidence();
    showSize();
  }

  // The address names what is shown; moving on adds nothing to the browser's history.
  function go(place, ofScorer) {
    location.replace(hashOf(place, ofScorer));
    const wanted = asked();
    if (wanted) show(wanted);
  }

  function move(by) {
    const order = sequence(), next = order[order.findIndex((one) => one.join() === shown.join()) + by];
    if (next) go(next, scorer);
  }

  function follow() {
    const wanted = asked();
    if (wanted) show(wanted);
    else if (dialog.open) dialog.close();
  }

  dialog.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) {
      event.preventDefault();
      move(by);
    }
  });
  dialog.addEventListener("close", () => {
    if (asked()) history.replaceState(null, "", location.href.replace(/#.*/, ""));
    const focus = document.activeElement, lost = focus === document.body || dialog.contains(focus);
    if (lost || shown.join() !== opened) linkOf(shown)?.focus();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  part(".close").addEventListener("click", () => dialog.close());
  part(".previous").addEventListener("click", () => move(-1));
  part(".next").addEventListener("click", () => move(1));
  drawn.addEventListener("change", drawBoxes);
  addEventListener("resize", () => { if (dialog.open) showSize(); });
  addEventListener("hashchange", follow);
  return { hashOf, follow };
}
