"""
Add a modality later
====================

A model of two modalities is in use, and now there is a third. Build the larger model and load the
old weights: only the new modality's are missing, and samples without it are answered as before.
Then train on with what there is.
"""

import torch

from modimpute import (
    ConsistencyLoss,
    CrossModalAttentionFusion,
    ModalityDropout,
    ModalityImputer,
)

torch.manual_seed(0)
OLD, NEW = {"audio": 5, "video": 6}, {"audio": 5, "motion": 4, "video": 6}
mixes = {name: torch.randn(2, dim) for name, dim in NEW.items()}
mixes["video"][1] = 0.0  # of the two hidden signals, video sees only one


def record(size):
    phase, speed = 6 * torch.rand(size, 1, 2), 0.2 + 0.4 * torch.rand(size, 1, 2)
    hidden = torch.sin(phase + speed * torch.arange(16).view(1, -1, 1))
    return {
        n: hidden @ mix + 0.3 * torch.randn(size, 16, NEW[n])
        for n, mix in mixes.items()
    }


def train(imputer, data, steps=100):
    dropout, consistency = ModalityDropout(0.5), ConsistencyLoss()
    optimizer = torch.optim.AdamW(imputer.parameters(), lr=3e-3)
    everything = {
        n: torch.ones(x.shape[:2], dtype=torch.bool) for n, x in data.items()
    }
    imputer.train()
    for _ in range(steps):
        rows = torch.randint(len(data["audio"]), (64,))
        x = {n: values[rows] for n, values in data.items()}
        there = {n: v[rows] for n, v in everything.items()}
        kept = dropout(x, valid=there)
        imputed = imputer(x, valid=kept)
        loss = sum(
            consistency(imputed[n], x[n], valid=there[n] & ~kept[n]) for n in x
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return imputer.eval()


data = record(600)
old = train(
    ModalityImputer(OLD, aligned=True, model_dim=32, num_layers=1),
    {name: data[name] for name in OLD},
)

# %%
# The larger model
# ----------------
#
# ``strict=False`` lets keys be missing. Look at which: each must be the new modality's, and there
# must be none that was not expected.

new = ModalityImputer(NEW, aligned=True, model_dim=32, num_layers=1)
missing, unexpected = new.load_state_dict(old.state_dict(), strict=False)
print(len(missing), "new parameters, the first:", missing[0])
assert not unexpected
assert missing
assert all("motion" in key for key in missing)

# %%
# Nothing has changed yet
# -----------------------

test = record(200)
without = {name: test[name] for name in OLD}
heard = {"audio": torch.zeros(200, 16, dtype=torch.bool)}
new.eval()
with torch.no_grad():
    before = old(without, valid=heard)["audio"]
    after = new(without, valid=heard)["audio"]
torch.testing.assert_close(after, before)
print("as before:", (after - before).abs().max().item() < 1e-5)

# %%
# Train on
# --------
#
# With the new modality in the data, both ways: it is imputed, and it helps to impute.

train(new, data)
with torch.no_grad():
    imputed = new(test, valid=heard)["audio"]
    motion = new(
        without, target_valid={"motion": torch.ones(200, 16, dtype=torch.bool)}
    )["motion"]
error_before = (before - test["audio"]).square().mean().item()
error_after = (imputed - test["audio"]).square().mean().item()
print(
    f"audio from video: {error_before:.2f}; from video and motion: {error_after:.2f}"
)
assert error_after < error_before
assert (motion - test["motion"]).square().mean() < test["motion"].var() / 2

# %%
# The same holds for the other layers, fusion for instance. Its output grows, though: one slot for
# each modality, in the order of the names. Whatever reads it must be told where the old slots are
# now.

old_fusion, new_fusion = (
    CrossModalAttentionFusion(OLD),
    CrossModalAttentionFusion(NEW),
)
missing, unexpected = new_fusion.load_state_dict(
    old_fusion.state_dict(), strict=False
)
assert not unexpected
assert all("motion" in key for key in missing)
old_fusion.eval(), new_fusion.eval()
with torch.no_grad():
    slots = dict(
        zip(new_fusion.modalities, new_fusion(without).split(64, -1), strict=True)
    )
    kept = torch.cat([slots[name] for name in old_fusion.modalities], -1)
    torch.testing.assert_close(kept, old_fusion(without))
assert (slots["motion"] == 0).all()
