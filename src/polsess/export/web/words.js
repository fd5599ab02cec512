// What the page says, in English and in Polish. Names of files come in as text, never as markup.
const WORDS = {
  en: {
    title: "Separate voices", titleOne: "Clean up speech", lead: "Everything stays in this browser: nothing is uploaded.",
    choose: "Choose or drop a sound file", formats: "WAV, FLAC, MP3, OGG, M4A … up to {n} minutes",
    record: "Record", stop: "Stop ({s})", voices: "Voices", automatic: "automatic", cancel: "Cancel",
    play: "Play", pause: "Pause", position: "Position", save: "Save", saveLabel: "Save {n} as WAV", saveAll: "Save all as WAV",
    saveTimeline: "Save who talks when (RTTM)", mixture: "Mixture", original: "Recording", speech: "Speech", speaker: "Speaker {n}", hear: "Hear {n}",
    talks: "{s} of talk", nothing: "silent", opening: "Opening {f} …", loading: "Loading the networks …",
    working: "Separating … {p}\u00a0%", left: "about {s} left", cancelled: "Cancelled.",
    done: "Done: {s} of sound in {t} ({r}\u00a0s per second of sound).",
    gated: "Voices found: {n}. It was separated only where several talk ({p}\u00a0% of the sound); what one says alone is untouched.",
    oneVoice: "If there are two, choose 2 under Voices.",
    wholly: "Several talk at once for much of it, so all of it was separated.",
    noSpeech: "No speech was found; all tracks are silent.", digital: "{f} holds nothing but silence.",
    long: "{f} is {m} minutes long; this page separates at most {n}. Cut it, or use the command polsess separate.",
    large: "{f} is larger than {n}\u00a0MB. Cut it, or use the command polsess separate.",
    notSound: "{f} is no sound that this browser can read, or it is damaged. Choose a WAV, FLAC, MP3 or OGG file.",
    cut: "{f} is cut off: a part of its sound is missing.", noNumbers: "{f} holds samples that are no numbers.",
    empty: "{f} is empty.", silent: "{f} holds no samples.",
    noOutput: "This browser plays no sound here: it has no output, or may not use it. Saving works.",
    noMicrophone: "There is no microphone, or this page may not use it.", recording: "recording",
    memory: "{f} does not fit in this browser's memory. Cut it, or use the command polsess separate.",
    notFinite: "The network returned no numbers for {f}. Use another recording or another network.",
    notLoaded: "The files of this page are not complete, or cannot be reached ({e}). Load the page again from a web server.",
    failed: "It did not work: {e}. Load the page again, or use the command polsess separate.",
    keys: "Keys: space plays and pauses, ← and → move by 2 s, Home and End to the ends, 1, 2, 3 … choose a voice, 0 the mixture, Escape cancels.",
  },
  pl: {
    title: "Rozdziel głosy", titleOne: "Oczyść mowę", lead: "Wszystko zostaje w tej przeglądarce: nic nie jest wysyłane.",
    choose: "Wybierz lub upuść plik dźwiękowy", formats: "WAV, FLAC, MP3, OGG, M4A … do {n} minut",
    record: "Nagraj", stop: "Zakończ ({s})", voices: "Głosy", automatic: "automatycznie", cancel: "Anuluj",
    play: "Odtwórz", pause: "Wstrzymaj", position: "Pozycja", save: "Zapisz", saveLabel: "Zapisz jako WAV: {n}",
    saveAll: "Zapisz wszystko jako WAV", saveTimeline: "Zapisz, kto kiedy mówi (RTTM)", mixture: "Mieszanina", original: "Nagranie", speech: "Mowa",
    speaker: "Mówca {n}", hear: "Słuchaj: {n}", talks: "{s} mowy", nothing: "cisza", opening: "Otwieranie {f} …",
    loading: "Wczytywanie sieci …", working: "Rozdzielanie … {p}\u00a0%", left: "jeszcze około {s}", cancelled: "Anulowano.",
    done: "Gotowe: {s} dźwięku w {t} ({r}\u00a0s na sekundę dźwięku).",
    gated: "Znalezione głosy: {n}. Rozdzielono tylko miejsca, w których mówi kilka osób ({p}\u00a0% dźwięku); reszta jest nietknięta.",
    oneVoice: "Jeśli są dwa, wybierz 2 w polu Głosy.",
    wholly: "Przez dużą część nagrania kilka osób mówi naraz, więc rozdzielono całość.",
    noSpeech: "Nie znaleziono mowy; wszystkie ścieżki są ciche.", digital: "{f} zawiera tylko ciszę.",
    long: "{f} trwa {m}\u00a0min; ta strona rozdziela najwyżej {n}. Przytnij plik albo użyj polecenia polsess separate.",
    large: "{f} jest większy niż {n}\u00a0MB. Przytnij plik albo użyj polecenia polsess separate.",
    notSound: "{f} nie jest dźwiękiem, który ta przeglądarka czyta, albo jest uszkodzony. Wybierz plik WAV, FLAC, MP3 lub OGG.",
    cut: "{f} jest ucięty: brakuje części dźwięku.", noNumbers: "{f} zawiera próbki, które nie są liczbami.",
    empty: "{f} jest pusty.", silent: "{f} nie zawiera próbek.",
    noOutput: "Ta przeglądarka nie odtwarza tu dźwięku: nie ma wyjścia albo zgody. Zapisywanie działa.",
    noMicrophone: "Nie ma mikrofonu albo ta strona nie może go użyć.", recording: "nagranie",
    memory: "{f} nie mieści się w pamięci przeglądarki. Przytnij plik albo użyj polecenia polsess separate.",
    notFinite: "Sieć nie zwróciła liczb dla {f}. Użyj innego nagrania albo innej sieci.",
    notLoaded: "Pliki tej strony są niepełne albo niedostępne ({e}). Wczytaj stronę ponownie z serwera.",
    failed: "Nie udało się: {e}. Wczytaj stronę ponownie albo użyj polecenia polsess separate.",
    keys: "Klawisze: spacja odtwarza i wstrzymuje, ← i → przesuwają o 2 s, Home i End na krańce, 1, 2, 3 … wybierają głos, 0 mieszaninę, Escape anuluje.",
  },
};

export const languages = Object.keys(WORDS);

let language = (navigator.language || "en").startsWith("pl") ? "pl" : "en";

export const currentLanguage = () => language;

export function nextLanguage() { language = languages[(languages.indexOf(language) + 1) % languages.length]; }

export function say(key, values = {}) {
  return WORDS[language][key].replace(/\{(\w+)\}/g, (whole, word) => (word in values ? values[word] : whole));
}

export const shownNumber = (value, digits) => value.toFixed(digits).replace(".", language === "pl" ? "," : ".");

export function shownSeconds(seconds) {
  if (seconds < 60) return `${shownNumber(seconds, 1)}\u00a0s`;
  return `${Math.floor(seconds / 60)}\u00a0min ${Math.floor(seconds % 60)}\u00a0s`;
}

export function clock(seconds) {
  return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
}
