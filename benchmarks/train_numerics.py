"""The numerics of `benchmarks/train.py`: fp32 loss of the rows as we train on them, and one by one.

One by one is transformers' own forward with eager attention, whole logits and plain cross-entropy, in nobody's pack.
For QPO the loss is taken with a reference of zero, since against the model itself it is ln 2 whatever the packing.
"""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from train_ours import job_of

from sq.data.collate import collate, shared_prefix
from sq.models.attention import choose_attention
from sq.models.load import load_model
from sq.models.losses import qpo_loss
from sq.models.pack import TokenSequence
from sq.models.packed_forward import pack_loss, row_logps
from sq.train.fit import prepare  # the rows exactly as the stage makes them

ROWS = 32


def main(s: dict[str, Any]) -> None:
    """Print both losses."""
    torch.set_num_threads(s["threads"])
    with tempfile.TemporaryDirectory() as output:
        job = job_of(s, output)
        encode = prepare(job).reader.encoding.encode
    with open(s["rows"]) as file:
        items = [encode({"id": str(i), **json.loads(line)}) for i, line in zip(range(ROWS), file, strict=False)]
    rows = [TokenSequence(*sequence) for item in items for sequence in item.sequences]
    model = load_model(job.model, dtype="float32").eval()
    attention = choose_attention(model, share_prefix=job.stage.share_prefix)
    pack = collate(rows, prefix=shared_prefix(rows), paired=s["task"] == "qpo")
    with torch.no_grad():
        if s["task"] == "qpo":
            packed = _preference(row_logps(model, pack, attention))
        else:
            packed = float(pack_loss(model, pack, attention).total) / pack.supervised
        model.set_attn_implementation("eager")
        logps = torch.stack([_alone(model, row) for row in rows])
    unpacked = _preference(logps) if s["task"] == "qpo" else -float(logps.sum()) / pack.supervised
    print(json.dumps({"packed": packed, "unpacked": unpacked, "rows": len(items)}))


def _alone(model: Any, row: TokenSequence) -> Tensor:
    ids = torch.tensor(list(row.ids))
    logits = model(input_ids=ids[None]).logits[0, row.start - 1 : -1].float()
    return -F.cross_entropy(logits, ids[row.start :], reduction="sum")


def _preference(logps: Tensor) -> float:
    zero = torch.zeros(len(logps) // 2)
    return float(qpo_loss(logps[0::2], logps[1::2], zero, zero, beta=0.1).loss)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
