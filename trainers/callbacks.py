import torch
from transformers import TrainerCallback


class FiniteGradients(TrainerCallback):
    """Raises FloatingPointError before a step whose gradient is not finite, which would leave no weight as it was.

    Not with float16, where such steps are usual: its gradient scaler leaves them out and scales down.
    """

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs) -> None:
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        if not args.fp16 and not torch.nn.utils.get_total_norm(gradients).isfinite():
            raise FloatingPointError(
                f"the gradient is not finite at step {state.global_step}; no step was made with it"
            )
