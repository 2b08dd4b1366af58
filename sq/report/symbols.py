"""The names of LaTeX mathematics that `formulas` knows, and the characters they stand for."""

from __future__ import annotations

LETTERS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ϵ", "varepsilon": "ε", "zeta": "ζ", "eta": "η",
    "theta": "θ", "vartheta": "ϑ", "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ",
    "pi": "π", "rho": "ρ", "sigma": "σ", "tau": "τ", "upsilon": "υ", "phi": "ϕ", "varphi": "φ", "chi": "χ",
    "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π",
    "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω", "infty": "∞", "ell": "ℓ", "hbar": "ℏ", "emptyset": "∅",
    "varnothing": "∅", "partial": "∂", "nabla": "∇", "aleph": "ℵ", "Re": "ℜ", "Im": "ℑ", "triangle": "△",
    "square": "□", "degree": "°", "circ": "∘", "dots": "…", "ldots": "…", "cdots": "⋯", "vdots": "⋮", "ddots": "⋱",
    "%": "%", "$": "$", "#": "#", "&": "&", "_": "_", "angle": "∠", "forall": "∀", "exists": "∃", "prime": "′",
    "star": "⋆", "ast": "∗", "bullet": "•", "pounds": "£",
}  # fmt: skip
OPERATORS = {
    "times": "×", "cdot": "⋅", "div": "÷", "pm": "±", "mp": "∓", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥",
    "ne": "≠", "neq": "≠", "lt": "<", "gt": ">", "approx": "≈", "equiv": "≡", "sim": "∼", "simeq": "≃", "cong": "≅",
    "propto": "∝", "to": "→", "rightarrow": "→", "leftarrow": "←", "Rightarrow": "⇒", "Leftarrow": "⇐",
    "implies": "⟹", "iff": "⟺", "Leftrightarrow": "⇔", "leftrightarrow": "↔", "mapsto": "↦", "in": "∈", "notin": "∉",
    "ni": "∋", "subset": "⊂", "subseteq": "⊆", "supset": "⊃", "supseteq": "⊇", "cup": "∪", "cap": "∩",
    "setminus": "∖", "mid": "∣", "nmid": "∤", "parallel": "∥", "perp": "⊥", "land": "∧", "wedge": "∧", "lor": "∨",
    "vee": "∨", "neg": "¬", "oplus": "⊕", "otimes": "⊗", "sum": "∑", "prod": "∏", "int": "∫", "iint": "∬",
    "oint": "∮", "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "langle": "⟨", "rangle": "⟩", "vert": "|",
    "lvert": "|", "rvert": "|", "Vert": "‖", "colon": ":", "therefore": "∴", "because": "∵", "{": "{", "}": "}",
    "|": "‖", "backslash": "\\", "ll": "≪", "gg": "≫",
}  # fmt: skip
FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp lim max min sup inf gcd lcm det dim ker "
    "deg arg hom Pr limsup liminf".split()
)
SPACES = {
    " ": "0.3em", ",": "0.17em", ";": "0.28em", ":": "0.22em", "!": "0em", "quad": "1em", "qquad": "2em",
    "\n": "0.3em", "thinspace": "0.17em",
}  # fmt: skip
ACCENTS = {
    "overline": "‾", "bar": "‾", "hat": "^", "widehat": "^", "vec": "→", "overrightarrow": "→", "tilde": "~",
    "widetilde": "~", "dot": "˙", "ddot": "¨", "underline": "_", "overbrace": "⏞", "underbrace": "⏟", "overarc": "⌒",
}  # fmt: skip
STYLES = {
    "mathbf": "font-weight:bold", "boldsymbol": "font-weight:bold", "bf": "font-weight:bold", "mathbb": "",
    "mathcal": "", "mathit": "", "mathsf": "", "mathfrak": "", "ensuremath": "", "displaylimits": "",
    "phantom": "visibility:hidden",
}  # fmt: skip
FENCES = {
    "(": "(", ")": ")", "[": "[", "]": "]", "|": "|", ".": "", "\\{": "{", "\\}": "}", "\\lfloor": "⌊",
    "\\rfloor": "⌋", "\\lceil": "⌈", "\\rceil": "⌉", "\\langle": "⟨", "\\rangle": "⟩", "\\vert": "|", "\\lvert": "|",
    "\\rvert": "|", "\\|": "‖", "\\Vert": "‖", "/": "/", "<": "⟨", ">": "⟩",
}  # fmt: skip
MATRICES = {
    "matrix": ("", ""), "pmatrix": ("(", ")"), "bmatrix": ("[", "]"), "vmatrix": ("|", "|"), "Bmatrix": ("{", "}"),
    "smallmatrix": ("", ""), "cases": ("{", ""), "array": ("", ""), "aligned": ("", ""), "align": ("", ""),
    "align*": ("", ""), "alignat*": ("", ""), "split": ("", ""), "gather": ("", ""), "gather*": ("", ""),
    "gathered": ("", ""), "equation": ("", ""), "equation*": ("", ""), "eqnarray*": ("", ""),
}  # fmt: skip
FENCED = frozenset("left right bigl bigr Bigl Bigr big Big bigg Bigg biggl biggr Biggl Biggr".split())
EMPTY = frozenset("displaystyle textstyle limits nolimits hline".split())
TEXTS = frozenset("text mbox textbf textit textrm textnormal mathrm operatorname".split())
