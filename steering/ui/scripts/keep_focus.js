// A button that goes away, or cannot be pressed any more, gives its focus to the one in its place:
// of those that share its class "in-place-…". What goes away within the chat while it is used by
// keys, such as Retry or the box of an edit, gives it to Stop, once an answer is being written. Who
// has gone elsewhere meanwhile is left alone.
() => {
  let group = null; // of the button that has the focus, or had it when it went away
  let begun = null; // which of them began it last
  let isInChat = false;

  const groupOf = (node) => [...node.classList].find((name) => name.startsWith("in-place-"));
  const isLost = () => document.activeElement === document.body || document.activeElement?.disabled;

  document.addEventListener("focusin", ({target}) => {
    isInChat = target.closest("#chat") !== null && target.matches(":focus-visible");
    group = isInChat ? "in-place-chat" : groupOf(target) ?? null;
    if (group && !target.classList.contains("stop")) begun = target;
  });
  document.addEventListener("focusout", ({target}) => setTimeout(() => {
    if (target.isConnected && !target.disabled && isLost()) group = null; // left, not taken away
  }));
  // At once: words of an answer come before the timeout above, and would bring the focus back.
  document.addEventListener("pointerdown", ({target}) => {
    if (group && !target.closest(`.${group}`)) group = null;
  });

  new MutationObserver(() => {
    if (group === null || !isLost()) return;
    const usable = [...document.querySelectorAll(`.${group}${isInChat ? ".stop" : ""}`)]
      .filter((one) => !one.disabled);
    const next = usable.includes(begun) ? begun : usable[0];
    next?.focus({preventScroll: true});
  }).observe(document, {subtree: true, childList: true, attributeFilter: ["disabled"]});
}
