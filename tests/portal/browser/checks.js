// Looks at the page as it stands and lists what would keep somebody from using it (WCAG 2.2 AA), as sentences.
() => {
  const wrong = [];
  const told = (node) => `<${node.tagName.toLowerCase()}${node.id ? ` id=${node.id}` : ""}> ${(node.textContent || node.name || "").trim().slice(0, 40)}`;
  const seen = (node) => node.checkVisibility({ checkVisibilityCSS: true, checkOpacity: true });
  const all = (selector) => [...document.querySelectorAll(selector)];

  // Names and places
  if (!document.documentElement.lang) wrong.push("the page does not say its language");
  if (!document.title.trim()) wrong.push("the page has no title");
  for (const landmark of ["header", "main", "footer"])
    if (all(`body > ${landmark}`).length !== 1) wrong.push(`there is not one ${landmark}`);
  const first = document.querySelector("a, button, input");
  if (!first || first.getAttribute("href") !== "#main") wrong.push("the first thing to tab to does not skip to the content");
  const names = all("nav").map((nav) => nav.getAttribute("aria-label"));
  if (names.includes(null) || new Set(names).size !== names.length) wrong.push("navigations without names of their own");

  // Headings
  const headings = all("h1, h2, h3, h4, h5, h6");
  if (headings.filter((one) => one.tagName === "H1").length !== 1) wrong.push("there is not one h1");
  let level = 0;
  for (const heading of headings) {
    const now = Number(heading.tagName[1]);
    if (now > level + 1) wrong.push(`a heading skips a level: ${told(heading)}`);
    level = now;
  }

  // What may be filled in or pressed has a name; what it refers to is there
  for (const field of all("input:not([type=hidden]), select, textarea")) {
    if (!field.labels.length || ![...field.labels].some((label) => label.textContent.trim())) wrong.push(`no label: ${told(field)}`);
    if (field.getAttribute("aria-invalid") === "true" && !field.hasAttribute("aria-describedby")) wrong.push(`wrong, and does not say what: ${told(field)}`);
  }
  for (const one of all("a[href], button")) if (!one.textContent.trim()) wrong.push(`nothing to read: ${told(one)}`);
  for (const image of all("img, svg[role=img]")) if (!image.getAttribute("alt") && !image.querySelector("title")) wrong.push("a picture without words");
  for (const table of all("table")) {
    if (!table.caption) wrong.push("a table without a caption");
    for (const head of table.querySelectorAll("th")) if (!head.scope) wrong.push(`a table's heading without a scope: ${told(head)}`);
  }
  for (const group of all("fieldset")) if (!group.querySelector("legend")?.textContent.trim()) wrong.push(`no legend: ${told(group)}`);
  const ids = all("[id]").map((node) => node.id);
  for (const id of new Set(ids.filter((one, at) => ids.indexOf(one) !== at))) wrong.push(`the id ${id} stands twice`);
  for (const attribute of ["aria-describedby", "aria-labelledby", "for"])
    for (const node of all(`[${attribute}]`))
      for (const id of node.getAttribute(attribute).split(/\s+/))
        if (!document.getElementById(id)) wrong.push(`${attribute} of ${told(node)} points at ${id}, which is not there`);
  for (const link of all("a[href^='#']")) if (!document.getElementById(link.hash.slice(1))) wrong.push(`a link to nowhere: ${link.hash}`);
  for (const problem of all(".summary")) if (problem.getAttribute("role") !== "alert") wrong.push("problems that nobody is told of");

  // Targets: 44 px, but for links inside a sentence
  for (const one of all("a[href], button, input:not([type=hidden], [type=radio], [type=checkbox]), select, textarea, .choice")) {
    if (!seen(one) || one.closest("p:not(.pages p), dd, li.step, .steps") && getComputedStyle(one).display === "inline") continue;
    if (one.matches(".skip")) continue;
    const box = one.getBoundingClientRect();
    if (box.height < 43.5) wrong.push(`${Math.round(box.height)} px high: ${told(one)}`);
  }

  // Contrast of every text on what is really behind it
  const parsed = (text) => {
    const found = /rgba?\((\d+), (\d+), (\d+)(?:, ([\d.]+))?\)/.exec(text);
    return found ? [Number(found[1]), Number(found[2]), Number(found[3]), found[4] === undefined ? 1 : Number(found[4])] : null;
  };
  const over = (top, below) => top.slice(0, 3).map((part, at) => part * top[3] + below[at] * (1 - top[3]));
  const behind = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) {
      const color = parsed(getComputedStyle(at).backgroundColor);
      if (!color) { wrong.push(`a colour that cannot be read: ${getComputedStyle(at).backgroundColor}`); continue; }
      if (color[3] > 0) layers.push(color);
      if (color[3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const light = (color) => {
    const [red, green, blue] = color.map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ratio = (one, other) => {
    const [dark, bright] = [light(one), light(other)].sort((a, b) => a - b);
    return (bright + 0.05) / (dark + 0.05);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !seen(node) || node.closest(".unseen, option")) continue;
    const ground = behind(node);
    const found = ratio(over(parsed(getComputedStyle(node).color), ground), ground);
    if (found < 4.5) wrong.push(`contrast ${found.toFixed(2)}: ${told(node)}`);
  }
  for (const field of all("input:not([type=hidden], [type=radio], [type=checkbox]), select, textarea")) {
    const found = ratio(parsed(getComputedStyle(field).borderTopColor), behind(field.parentElement));
    if (found < 3) wrong.push(`edge of a field, contrast ${found.toFixed(2)}: ${told(field)}`);
  }
  return [...new Set(wrong)];
}
