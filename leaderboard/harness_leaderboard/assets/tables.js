// Sorting by column heads, shared by the page and the static site. Cells may carry a number in data-v.
function sortable(root) {
  for (const button of root.querySelectorAll("thead button[data-sort]")) {
    button.onclick = () => {
      const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
      const column = [...head.parentNode.children].indexOf(head);
      const before = head.getAttribute("aria-sort");
      const rising = before ? before === "descending" : head.dataset.first !== "descending";
      for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const key = row => { const cell = row.children[column]; return cell.dataset.v !== undefined ? cell.dataset.v : cell.textContent.trim(); };
      const number = text => text === "" ? NaN : Number(text);
      const rows = [...body.rows].map(row => [key(row), row]);
      rows.sort(([a], [b]) => {
        const x = number(a), y = number(b);
        if (isNaN(x) && isNaN(y)) return rising ? a.localeCompare(b) : b.localeCompare(a);
        if (isNaN(x)) return 1;
        if (isNaN(y)) return -1;
        return rising ? x - y : y - x;
      });
      for (const [, row] of rows) { row.classList.remove("tier"); body.append(row); }
    };
  }
}
