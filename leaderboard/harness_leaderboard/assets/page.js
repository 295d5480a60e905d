// Shows HTML that the server made and escaped; a plain click on one of our links stays in the session.
export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  let root = parentElement.querySelector(".nh");
  const color = getComputedStyle(parentElement.host || parentElement).getPropertyValue("--st-background-color").trim();
  const hex = /^#(..)(..)(..)/.exec(color);
  const rgb = hex ? hex.slice(1, 4).map(part => parseInt(part, 16)) : (color.match(/\d+/g) || [255, 255, 255]).map(Number);
  root.classList.toggle("dark", 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] < 128);
  if (root.dataset.shown !== data.mark) {
    root.innerHTML = data.html;
    root.dataset.shown = data.mark;
    sortable(root);
    draw_charts(root);
  }
  root.onclick = event => {
    const link = event.composedPath().find(node => node.tagName && node.tagName.toLowerCase() === "a" && node.hasAttribute("data-go"));
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    setTriggerValue("go", link.getAttribute("href"));
  };
}
