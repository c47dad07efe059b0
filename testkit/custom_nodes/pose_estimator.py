"""A stand-in for comfyui_controlnet_aux's DWPose Estimator.

It has that node's inputs, and its output for two people side by side.
"""


def person(left: float, height: int) -> dict:
    """Ten joints found, the others missing as that node gives them; no hands and no face."""
    found = [[left + 5 * (i % 3), height * (0.2 + 0.06 * i), 1.0] for i in range(10)]
    joints = [number for joint in found + [[0.0, 0.0, 0.0]] * 8 for number in joint]
    empty = {
        "face_keypoints_2d": None,
        "hand_left_keypoints_2d": None,
        "hand_right_keypoints_2d": None,
    }
    return {"pose_keypoints_2d": joints} | empty


class DWPreprocessor:
    """See the module."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE", "POSE_KEYPOINT"), "estimate_pose", "test"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        switch = (["enable", "disable"], {"default": "enable"})
        return {
            "required": {"image": ("IMAGE",)},
            "optional": {
                "detect_hand": switch,
                "detect_body": switch,
                "detect_face": switch,
                "resolution": ("INT", {"default": 512}),
                "bbox_detector": (["yolox_l.onnx"],),
                "pose_estimator": (["dw-ll_ucoco_384_bs5.torchscript.pt"],),
                "scale_stick_for_xinsr_cn": (["disable", "enable"],),
            },
        }

    def estimate_pose(self, image, **_):  # noqa: ANN001, ANN003, ANN201 (torch is the host's)
        height, width = image.shape[1:3]
        people = [person(0.7 * width, height), person(0.2 * width, height)]
        return image, [{"people": people, "canvas_height": height, "canvas_width": width}]


NODE_CLASS_MAPPINGS = {"DWPreprocessor": DWPreprocessor}
