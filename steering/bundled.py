"""What comes with the program beside the bundled model: neuron sets, and what one can ask it.

Where the model's weights lie is `loading.BUNDLED_FOLDER`. Knows no surface.
"""

from pathlib import Path

NEURON_SETS = Path(__file__).resolve().parent.parent / "neuron_sets"
BUNDLED_NEURON_SET = NEURON_SETS / "bundled.safetensors"  # what the page steers with
BUNDLED_PAPER_SET = NEURON_SETS / "bundled-paper.safetensors"  # LAPE on plain text, as published

# Real models whose sets ship: on a laptop, and where there is a GPU.
REAL_MODEL = "Qwen/Qwen2.5-Coder-0.5B-Instruct"
REAL_MODEL_ON_GPU = "Qwen/Qwen2.5-Coder-1.5B-Instruct"

# Questions of demo_model/grammar, word for word.
BUNDLED_QUESTIONS = (
    "Where is the cat?",
    "¿Qué come el perro?",
    "日本の首都はどこですか？",
    "香蕉是什么颜色的？",
    "Raconte-moi une histoire sur un éléphant.",
    "What can you do?",
)

# Held-out questions of the same grammar and their languages: the first eight of
# `evaluate forcing --seed 0` that ask for another language than their own.
BUNDLED_CHECKS = (
    ("ja", "何か冗談を言ってください。"),
    ("en", "Could you give us 2 oranges?"),
    ("vi", "làm ơn cộng 2 với 5"),
    ("fr", "Sais-tu quelle heure il est ?"),
    ("id", "Gimana cara ke Tokyo kalau dari Roma?"),
    ("zh", "你会做什么？"),
    ("es", "Compara una vaca con un perro. ¿Cuál es más grande?"),
    ("ja", "君が誰か知りたい。"),
)
