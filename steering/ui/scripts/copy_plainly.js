// What is copied is without the signs that keep "<" and "![" from being more than letters
// (chat/messages.py); whether it was selected or is the code of a button.
() => {
  const SIGN = /(?<=<)\u200b|(?<=!)\u200b(?=\[)/g;
  const plain = (text) => text.replace(SIGN, "");

  const selectedIn = (field) => field.value.slice(field.selectionStart, field.selectionEnd);

  // The selection as HTML: a sign and the letter before it may stand in different nodes.
  const asHtml = (selection) => {
    const box = document.createElement("div");
    for (let place = 0; place < selection.rangeCount; place++) {
      box.append(selection.getRangeAt(place).cloneContents());
    }
    const walker = document.createTreeWalker(box, NodeFilter.SHOW_TEXT);
    for (let before = ""; walker.nextNode(); before = walker.currentNode.data.at(-1) ?? before) {
      const node = walker.currentNode;
      node.data = node.data.replace(/\u200b/g, (sign, at) =>
        ["<", "!"].includes(at ? node.data[at - 1] : before) ? "" : sign);
    }
    return box.innerHTML;
  };

  document.addEventListener("copy", (event) => {
    const field = event.target.closest?.("textarea, input");
    const selection = document.getSelection();
    const text = field ? selectedIn(field) : selection.toString();
    if (event.defaultPrevented || plain(text) === text) return;
    event.clipboardData.setData("text/plain", plain(text));
    if (!field) event.clipboardData.setData("text/html", asHtml(selection));
    event.preventDefault();
  });

  const clipboard = navigator.clipboard; // not there where the page is not secure
  if (clipboard) {
    const write = clipboard.writeText.bind(clipboard);
    clipboard.writeText = (text) => write(plain(String(text)));
  }
}
