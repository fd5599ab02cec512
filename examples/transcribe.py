"""A recogniser for `polsess evaluate --transcriber`: pocketsphinx, with the model of English in its package.

    pip install pocketsphinx
    polsess evaluate -m default -d data/my_set --transcriber "python examples/transcribe.py {wav}"

It takes a WAV file of 16 kHz and prints a line of JSON per word.
"""

import json
import sys
import wave


def recognise(path: str) -> None:
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=16_000, loglevel="FATAL")
    with wave.open(path) as sound:
        decoder.start_utt()
        decoder.process_raw(sound.readframes(sound.getnframes()), full_utt=True)
        decoder.end_utt()
    for segment in decoder.seg() or ():
        word = segment.word.split("(")[0]  # (2) marks a second pronunciation
        if not word.startswith(("<", "[")):
            times = {"start": segment.start_frame / 100, "end": (segment.end_frame + 1) / 100}
            print(json.dumps({"word": word, **times}))


if len(sys.argv) == 2:
    recognise(sys.argv[1])
else:
    print(__doc__)
