"""What stands in for a terminal, a disk and a stage in tests of what coordinates them."""

from pipeline.records.run_state import RunState


class Notes(list):
    """A view and a recorder that only remember their calls: ``("epoch", 0, [0, 1])``."""

    def write(self, row):
        self.append(("row", row["event"]))

    def planned(self, plan):
        self.append(("planned", plan.epoch))

    def started(self):
        self.append(("started",))

    def progress(self, body):
        self.append(("progress", body["step"]))

    def epoch(self, plan, blocks):
        self.append(("epoch", plan.epoch, [b["block"] for b in blocks]))


def run_state_of(schedule, num_stages, num_blocks):
    """A run_state, and the notes of everything that it shows and records."""
    notes = Notes()
    return RunState(schedule, num_stages, num_blocks, notes, notes), notes


def block_row(block, loss=None, accuracy=None):
    return {"block": block, "train_loss": loss, "test_accuracy": accuracy, "test_loss": None, "credit": None}


def epoch_body(epoch, stage, *blocks):
    """What a stage reports of an epoch."""
    return {"epoch": epoch, "stage": stage, "blocks": list(blocks), "checked": epoch}


def result_body(stage):
    """What a stage reports at its end."""
    return {"row": {"stage": stage}, "digests": {}, "steps": 1, "folder": ""}
