// What the page says, in English and in Polish.
const WORDS = {
  en: {
    about: "Separates the people who speak in a recording into tracks of their own.",
    key: "API key", enter: "Enter", leave: "Sign out", wrong_key: "The service does not know this key.",
    choose: "Choose recordings", record: "Record", stop: "Stop recording", drop: "or drop them here",
    limits: (bytes, minutes, hours) =>
      `Up to ${bytes} and ${minutes} each. Results are deleted after ${hours} h.`,
    options: "Options", model: "Model", speakers: "Voices (auto, 2 or 2-4)", gate: "Separate",
    gate_auto: "as it fits", gate_always: "only where several talk", gate_never: "everything",
    channels: "Channels", channels_mix: "their mean", channels_each: "each by itself",
    format: "Format", send: "Separate", remove: "Remove",
    sending: "sending", queued: "waits", ahead: (count) => `waits, ${count} before it`,
    running: "begins", listening: "listens who speaks when", separating: "separates", drawing: "draws",
    done: "done", failed: "failed", gone: "deleted or expired", left: (time) => `${time} left`,
    cancel: "Cancel", delete: "Delete", all: "All files (zip)", show: "Listen",
    play: "Play", pause: "Pause", position: "Position in seconds", repeat: "repeat",
    mixture: "recording", speech: "speech", speaker: (number) => `voice ${number}`, save: "save",
    unplayable: "cannot be played here", talks: (time) => `talks ${time}`, who: "Who speaks when",
    one_voice: "One voice was found. If there are two, write 2 under Voices.",
    lost: "The connection is lost; trying again.", microphone: "The microphone cannot be used",
    keyboard: "Space plays and pauses; 1 to 9, up and down choose the track; left and right go 5 s.",
  },
  pl: {
    about: "Rozdziela osoby mówiące w nagraniu na osobne ścieżki.",
    key: "Klucz API", enter: "Wejdź", leave: "Wyloguj", wrong_key: "Usługa nie zna tego klucza.",
    choose: "Wybierz nagrania", record: "Nagraj", stop: "Zakończ nagrywanie", drop: "albo upuść je tutaj",
    limits: (bytes, minutes, hours) =>
      `Do ${bytes} i ${minutes} każde. Wyniki są usuwane po ${hours} h.`,
    options: "Opcje", model: "Model", speakers: "Głosy (auto, 2 albo 2-4)", gate: "Rozdzielaj",
    gate_auto: "według potrzeby", gate_always: "tylko gdy mówi kilka osób", gate_never: "wszystko",
    channels: "Kanały", channels_mix: "ich średnią", channels_each: "każdy osobno",
    format: "Format", send: "Rozdziel", remove: "Usuń",
    sending: "wysyłanie", queued: "czeka", ahead: (count) => `czeka, przed nim: ${count}`,
    running: "zaczyna", listening: "słucha, kto kiedy mówi", separating: "rozdziela", drawing: "rysuje",
    done: "gotowe", failed: "nie udało się", gone: "usunięte lub wygasłe", left: (time) => `zostało ${time}`,
    cancel: "Anuluj", delete: "Usuń", all: "Wszystkie pliki (zip)", show: "Odsłuchaj",
    play: "Odtwórz", pause: "Pauza", position: "Pozycja w sekundach", repeat: "powtarzaj",
    mixture: "nagranie", speech: "mowa", speaker: (number) => `głos ${number}`, save: "zapisz",
    unplayable: "nie da się tu odtworzyć", talks: (time) => `mówi ${time}`, who: "Kto kiedy mówi",
    one_voice: "Znaleziono jeden głos. Jeśli są dwa, wpisz 2 w polu Głosy.",
    lost: "Połączenie przerwane; próbuję ponownie.", microphone: "Nie można użyć mikrofonu",
    keyboard: "Spacja odtwarza i zatrzymuje; 1–9, góra i dół wybierają ścieżkę; lewo i prawo: 5 s.",
  },
};

let language = localStorage.getItem("language") ?? (navigator.language.startsWith("pl") ? "pl" : "en");

export const currentLanguage = () => language;

export const setLanguage = (name) => {
  language = name in WORDS ? name : "en";
  localStorage.setItem("language", language);
  document.documentElement.lang = language;
  document.querySelectorAll("[data-text]").forEach((each) => { each.textContent = say(each.dataset.text); });
};

export const say = (key, ...values) => {
  const words = WORDS[language][key] ?? key;
  return typeof words === "function" ? words(...values) : words;
};

export const nameOf = (speaker) => {
  const number = /^speaker(\d+)$/.exec(speaker);
  return number ? say("speaker", number[1]) : say(speaker);
};

const decimal = (value, digits) => value.toFixed(digits).replace(".", language === "pl" ? "," : ".");

export const time = (seconds) => {
  if (seconds < 60) return `${decimal(seconds, seconds >= 10 || Number.isInteger(seconds) ? 0 : 1)} s`;
  const whole = Math.round(seconds);
  if (whole % 3600 === 0) return `${whole / 3600} h`;
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const shown = parts[0] ? parts : parts.slice(1);
  return shown.map((part, index) => (index ? String(part).padStart(2, "0") : part)).join(":");
};

export const size = (bytes) => {
  const [unit, name] = bytes >= 1e9 ? [1e9, "GB"] : bytes >= 1e6 ? [1e6, "MB"] : [1e3, "kB"];
  const value = bytes / unit;
  return `${value >= 100 || unit === 1e3 ? Math.max(1, Math.round(value)) : decimal(value, 1)} ${name}`;
};

// An element; text is never read as HTML.
export const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
};
