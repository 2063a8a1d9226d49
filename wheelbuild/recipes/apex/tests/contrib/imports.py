"""Test of the contrib modules: each that is here loads and holds the functions that Apex calls.

It runs no kernel, so it never names a GPU: a wheel with contrib modules is untested in these.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import time

import torch  # noqa: F401 - first: it loads the libraries that the modules need

FUNCTIONS = {
    "bnp": "bn_fwd_nhwc bn_bwd_nhwc bn_addrelu_fwd_nhwc bn_addrelu_bwd_nhwc get_buffer_size",
    "cudnn_gbn_lib": "forward backward",
    "distributed_adam_cuda": "multi_tensor_fused_adam multi_tensor_fused_adam_capturable",
    "distributed_lamb_cuda": "multi_tensor_lamb_compute_update_term",
    "fast_bottleneck": "forward backward forward_init forward_out1 backward_init",
    "fast_layer_norm": "ln_fwd ln_bwd",
    "focal_loss_cuda": "forward backward",
    "fused_adam_cuda": "adam adam_mt maybe_cast maybe_adam_undo strided_check_finite",
    "fused_conv_bias_relu": "forward backward forward_mask forward_no_relu",
    "fused_index_mul_2d": "float_forward float_backward half_forward half_backward",
    "fused_lamb_cuda": "lamb",
    "group_norm_cuda": "forward backward",
    "group_norm_v2_cuda": "gn gn_bwd",
    "nccl_p2p_cuda": "init_nccl_comm get_unique_nccl_id left_right_halo_exchange",
    "peer_memory_cuda": "allocate_raw free_raw push_pull_halos_1d",
    "permutation_search_cuda": "sum_after_2_to_4 build_permute_map check_permutations",
    "transducer_joint_cuda": "forward backward",
    "transducer_loss_cuda": "forward backward",
    "xentropy_cuda": "forward backward",
}


def main() -> int:
    """Load every contrib module that is installed; print one line of JSON."""
    started, errors, passed = time.monotonic(), [], 0
    for name, functions in FUNCTIONS.items():
        if importlib.util.find_spec(name) is None:
            continue
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            errors.append(f"{name}: {error}")
            continue
        missing = [one for one in functions.split() if not hasattr(module, one)]
        errors += [f"{name}: has no function {one}" for one in missing]
        passed += not missing
    if not passed and not errors:
        errors.append("no contrib module is installed")
    result = {
        "module": "contrib",
        "passed": passed,
        "failed": len(errors),
        "first_error": errors[0] if errors else None,
        "seconds": round(time.monotonic() - started, 3),
        "gpu": None,
        "driver": None,
    }
    print(json.dumps(result))
    return 1 if errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
