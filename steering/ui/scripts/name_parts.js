// Gradio's own parts that those who hear the page could not use: axe-core calls them serious.
() => {
  const MENDS = {
    // A list of buttons without list items; each button says its number.
    "#chat .examples[role='list']": (list) => list.setAttribute("role", "group"),
    // Named by a title and a placeholder alone.
    ".search-input:not([aria-label])": (search) =>
      search.setAttribute("aria-label", search.placeholder || search.title),
    // A warning is a button with a button in it; the inner one, which closes it, stays.
    ".toast-header[role='button']": (header) => {
      header.removeAttribute("role");
      header.removeAttribute("tabindex");
    },
  };

  const mend = () => {
    for (const [selector, change] of Object.entries(MENDS)) {
      document.querySelectorAll(selector).forEach(change);
    }
  };

  let isDue = false; // once per drawn frame, not for every word of an answer
  new MutationObserver(() => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      mend();
    });
  }).observe(document.documentElement, { childList: true, subtree: true });
}
