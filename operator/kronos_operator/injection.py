"""Variables and annotations by which a pod runs code, or reaches devices, beyond its image and its resources.

They are denied where `policy.allowedImagePrefixes` is set, since they would make an allowed image run anything that
lies on a claim. Only the name counts: a value may come from a Secret or ConfigMap that nobody has looked at.

Not denied are variables that choose where data come from and go to (HF_ENDPOINT, COMET_URL_OVERRIDE, AWS_ENDPOINT_URL,
*_PROXY, SSL_CERT_FILE and the like). What the trainer fetches is data, never code, and many clusters cannot do without
a mirror, a proxy or an authority of their own. A NetworkPolicy decides to which servers pods may connect, and
`policy.allowedSecrets` which Secrets a model may use.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

# Patterns of names; * stands for any characters.
ENV = (
    # Python: what it imports, where from, and what it runs before and after.
    "PYTHON*", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__", "COVERAGE_*", "COV_CORE_*",
    "MATPLOTLIBRC", "MPLBACKEND", "MPLCONFIGDIR", "NUMBA_*", "FSSPEC_*",
    # The dynamic linker and the C library.
    "LD_*", "GCONV_PATH", "GETCONF_DIR", "GLIBC_TUNABLES", "LOCPATH", "NLSPATH",
    # Programs that are found by name, and shells on their way to run one.
    "PATH", "SHELL", "BASH_*", "BASHOPTS", "SHELLOPTS", "ENV", "IFS", "PS4", "PROMPT_COMMAND", "ZDOTDIR",
    # Directories of settings and caches from which code is loaded. The operator sets HOME itself.
    "XDG_*", "TMPDIR", "TEMP", "TMP",
    # torch and what it compiles with.
    "TORCHINDUCTOR_*", "TORCHDYNAMO_*", "AOT_INDUCTOR_*", "TRITON_*", "TORCH_COMPILE_*",
    "TORCH_DEVICE_BACKEND_AUTOLOAD", "TORCH_EXTENSIONS_DIR", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "TORCH_HOME",
    "PYTORCH_KERNEL_CACHE_PATH", "KINETO_*",
    "CC", "CXX", "CPP", "CFLAGS", "CPPFLAGS", "CXXFLAGS", "LDFLAGS", "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH",
    "LIBRARY_PATH", "COMPILER_PATH", "GCC_*", "NVCC_*", "PYTORCH_NVCC",
    # CUDA, its tools, and the networks of a gang: libraries that they load.
    "CUDA_CACHE_PATH", "CUDA_HOME", "CUDA_INJECTION*", "CUDA_MPS_*", "CUDA_PATH", "NVTX_*", "NCCL_*_PLUGIN",
    "NCCL_CONF_FILE", "FI_PROVIDER_PATH", "IBV_*", "RDMAV_*", "UCX_MODULE*", "OMPI_*", "ROCM_*", "HSA_TOOLS_*",
    # OpenMP's and Intel's tools, OpenSSL, Kerberos, SASL, Hadoop: plugins.
    "OMP_TOOL*", "INTEL_*", "OPENSSL_*", "KRB5_*", "SASL_*", "ARROW_LIBHDFS*", "HADOOP_*",
    # Settings of clouds that name a program to run for credentials.
    "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_DATA_PATH", "BOTO_CONFIG", "AZURE_CONFIG_DIR",
    "AZURE_EXTENSION_DIR", "CLOUDSDK_*", "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES",
    # Code from a hub.
    "HF_MODULES_CACHE", "*TRUST_REMOTE_CODE*",
    # Other languages and tools, should the image have them.
    "PIP_*", "UV_*", "CONDA_*", "GIT_*", "PERL*", "RUBY*", "NODE_OPTIONS", "NODE_PATH", "JAVA_*",
    "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH", "LUA_*",
    # Devices that the container's runtime adds, or that CUDA images show, allotted or not.
    "NVIDIA_*", "*_VISIBLE_DEVICES", "ASCEND_*", "HABANA_*",
)  # fmt: skip

# Keys of annotations and labels by which runtimes add devices, and the webhooks of other products containers.
KEYS = (
    "cdi.k8s.io/*", "*.nri.io/*", "*.nri.containerd.io/*", "io.kubernetes.cri-o.*", "io.containerd.*",
    "io.katacontainers.*", "container.apparmor.security.beta.kubernetes.io/*",
    "sidecar.istio.io/*", "inject.istio.io/*", "proxy.istio.io/*", "istio.io/*", "linkerd.io/*", "config.linkerd.io/*",
    "config.alpha.linkerd.io/*", "dapr.io/*", "consul.hashicorp.com/*", "vault.hashicorp.com/*",
    "sidecar.opentelemetry.io/*", "instrumentation.opentelemetry.io/*", "admission.datadoghq.com/*", "dynatrace.com/*",
    "*.dynatrace.com/*",
)  # fmt: skip


def denied(names: Iterable[str], patterns: tuple[str, ...], allowed: tuple[str, ...]) -> list[str]:
    """The names that one of the patterns matches and none of the allowed ones, in their order."""
    return [name for name in names if _matches(name, patterns) and not _matches(name, allowed)]


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
