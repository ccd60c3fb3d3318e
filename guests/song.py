"""Writes a song as a wave file. usage: song.py SECONDS FILE"""

import array
import math
import sys
import wave

RATE = 44100
seconds, name = int(sys.argv[1]), sys.argv[2]
samples = array.array("h")
for second in range(seconds):
    pitch = 220 * 2 ** (second % 12 / 12)
    tone = [math.sin(2 * math.pi * pitch * i / RATE) + math.sin(5.1 * pitch * i / RATE) / 3 for i in range(RATE // 10)]
    samples.extend(int(12000 * tone[i % len(tone)]) for i in range(RATE))
with wave.open(name, "wb") as file:
    file.setnchannels(1)
    file.setsampwidth(2)
    file.setframerate(RATE)
    file.writeframes(samples.tobytes())
