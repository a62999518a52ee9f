SOURCE_HASH: str
COMPILER: str
SIMD: str
CPU_LEVEL: int

def record_fields() -> dict[str, list[str]]: ...
