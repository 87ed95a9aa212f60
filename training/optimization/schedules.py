"""Learning rates in closed form, so that interrupting a run does not change them."""


def exponential_lr(lr0: float, gamma: float, epoch: int) -> float:
    """Returns the learning rate of an epoch, ``lr0 · gamma^epoch``.

    Args:
        lr0: learning rate of the first epoch.
        gamma: factor from one epoch to the next; 1.0 is a constant rate.
        epoch: number of finished epochs, 0 for the first.

    Raises:
        ValueError: the epoch is negative.

    References:
        `torch.optim.lr_scheduler.ExponentialLR`, which multiplies step by step and so
        differs in the last bits.
    """
    if epoch < 0:
        raise ValueError(f"epoch is {epoch}; it counts finished epochs, 0 for the first")
    return lr0 * gamma**epoch
