// While an answer is being written, asks now and then whether the server is there, and says in a
// banner if it is not, and when it is again. Gradio notices some broken streams, but not all; and
// where it notices one, Stop goes away: an answer without its end is asked after a few times more.
(words) => {
  const EVERY_MS = 3000;
  const PATIENCE_MS = 8000; // a busy machine may take a while to answer
  const ENOUGH = 2; // failures in a row
  const AFTERWARDS = 5; // a server that ends may answer for some seconds
  let hasWritten = false, left = 0; // since it was looked last; how often to ask afterwards
  let failures = 0, news = ""; // "", "server_gone" or "server_back"

  const banner = document.createElement("div");
  banner.id = "server-watch";
  banner.setAttribute("role", "alert");

  const isWriting = () => document.querySelector('.stop[class*="in-place-"]') !== null;
  const isBroken = () => {
    const last = [...document.querySelectorAll("#chat .bot.message")].at(-1);
    return Boolean(last?.querySelector(".being-written, .broken-off"));
  };

  const isThere = async () => {
    const address = location.pathname.replace(/\/?$/, "/healthz");
    try {
      const asked = {cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS)};
      return (await fetch(address, asked)).status < 500; // a proxy says 502 of a server that is gone
    } catch {
      return false;
    }
  };

  const show = (latest) => {
    if (latest === news) return;
    news = latest;
    banner.replaceChildren();
    if (news === "") return;
    const own = words[document.documentElement.lang.split("-")[0]] ?? words.en;
    const text = document.createElement("p");
    text.dir = "auto";
    text.textContent = `⚠ ${own[news]}`;
    banner.append(text);
    if (news !== "server_back") return;
    const button = document.createElement("button");
    button.textContent = own.reload_page;
    button.onclick = () => location.reload();
    banner.append(button);
  };

  const look = async () => {
    if (!banner.isConnected) document.body.append(banner); // empty, so that words in it are news
    if (hasWritten || isWriting()) left = AFTERWARDS;
    hasWritten = false;
    if (isWriting() || (isBroken() && (left > 0 || news === "server_gone"))) {
      left -= 1;
      failures = (await isThere()) ? 0 : failures + 1;
      if (failures >= ENOUGH) show("server_gone");
      else if (failures === 0 && news === "server_gone") show("server_back");
    }
    if (!isWriting() && !isBroken()) { // what was written has come to its end
      failures = 0;
      show("");
    }
    setTimeout(look, EVERY_MS);
  };
  setTimeout(look, EVERY_MS);

  // An answer may begin and be broken off between two looks.
  new MutationObserver(() => { hasWritten ||= isWriting(); })
    .observe(document, {subtree: true, childList: true});
}
