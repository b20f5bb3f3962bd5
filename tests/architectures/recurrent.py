"""Models with a state: Mamba of transformers, and the LSTM and GRU of torch behind a norm."""

from __future__ import annotations

from torch import Tensor, nn

from architectures.case import LAYERS, VOCABULARY, Case, causal, tokens


class Recurrent(nn.Module):
    """Embedding, layer norm, a recurrent network, logits: [N, T] -> [N, T, VOCABULARY]."""

    def __init__(self, cell: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(VOCABULARY, 22), nn.LayerNorm(22)
        self.cell, self.head = cell(22, 18, LAYERS, batch_first=True), nn.Linear(18, VOCABULARY)

    def forward(self, ids: Tensor) -> Tensor:
        states, _ = self.cell(self.norm(self.embed(ids)))
        return self.head(states)


MODELS = {
    "mamba": causal(
        "Mamba", fixed=("input_ids:1",), vocab_size=VOCABULARY, hidden_size=22, state_size=6, num_hidden_layers=LAYERS,
        time_step_rank=5, conv_kernel=3,
    ),
    "lstm": lambda: Case(Recurrent(nn.LSTM), (tokens(5),), loss="cross_entropy"),
    "gru": lambda: Case(Recurrent(nn.GRU), (tokens(5),), loss="cross_entropy"),
}  # fmt: skip
